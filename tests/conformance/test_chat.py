"""/v1/chat/completions, unstreamed: shape, finish reasons, and what the sampling fields promise."""

import math
from typing import Any

import httpx
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion

from tests.conformance.target import check_error, user

STORY = user("Tell me a story about a lighthouse.")
COUNT = user("Count from 1 to 30: 1, 2, 3,")


def test_shape(http: httpx.Client, client: OpenAI, model: str) -> None:
    client.chat.completions.create(model=model, messages=user("Hi"), max_tokens=4)  # strict: raises
    answer = http.post("/chat/completions", json={"model": model, "messages": user("Hi"), "max_tokens": 4}).json()
    assert answer["object"] == "chat.completion"
    assert answer["id"] and answer["created"] > 1_700_000_000 and answer["model"] == model
    (choice,) = answer["choices"]
    assert choice["index"] == 0
    assert "logprobs" in choice and choice["finish_reason"] in ("stop", "length")
    assert choice["message"]["role"] == "assistant"
    assert isinstance(choice["message"]["content"], str)
    assert "refusal" in choice["message"]
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert 0 < usage["completion_tokens"] <= 4 < usage["prompt_tokens"]


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_length_at_the_limit(client: OpenAI, model: str, limit: str) -> None:
    given: Any = {limit: 5}
    answer = client.chat.completions.create(model=model, messages=STORY, **given)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage and answer.usage.completion_tokens == 5


def test_stop_strings(client: OpenAI, model: str) -> None:
    """Cut at the first of them, wherever tokens end; neither it nor what follows is seen."""
    whole = client.chat.completions.create(model=model, messages=STORY, max_tokens=60, temperature=0)
    text = whole.choices[0].message.content or ""
    middle = text[len(text) // 2 :]
    stop = middle[1:8]  # begins and ends where it pleases
    for stops in (stop, [stop], ["\u2603 never", stop, middle[3:30]]):
        answer = client.chat.completions.create(model=model, messages=STORY, max_tokens=60, temperature=0, stop=stops)
        assert answer.choices[0].message.content == text[: text.index(stop)]
        assert answer.choices[0].finish_reason == "stop"


def test_temperature_0_is_repeatable(client: OpenAI, model: str) -> None:
    texts = {
        client.chat.completions.create(model=model, messages=STORY, max_tokens=24, temperature=0)
        .choices[0]
        .message.content
        for _ in range(3)
    }
    assert len(texts) == 1


def test_seed_repeats(client: OpenAI, model: str) -> None:
    def answer(seed: int) -> str | None:
        made = client.chat.completions.create(model=model, messages=STORY, max_tokens=24, temperature=1.2, seed=seed)
        return made.choices[0].message.content

    assert answer(7) == answer(7)
    assert len({answer(seed) for seed in range(5)}) > 1


def test_n(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=STORY, max_tokens=12, temperature=1.2, n=3, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) > 1
    assert answer.usage and 3 < answer.usage.completion_tokens <= 36


def test_logprobs(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=STORY, max_tokens=12, temperature=0, logprobs=True)
    (choice,) = answer.choices
    assert choice.logprobs and choice.logprobs.content and answer.usage
    tokens = choice.logprobs.content
    assert len(tokens) == answer.usage.completion_tokens == 12
    assert b"".join(bytes(token.bytes or []) for token in tokens).decode(errors="replace") == choice.message.content
    assert all(-100 < token.logprob <= 0 and token.top_logprobs == [] for token in tokens)


def test_top_logprobs_are_given_or_refused_by_name(http: httpx.Client, model: str) -> None:
    body = {"model": model, "messages": STORY, "max_tokens": 12, "temperature": 0, "logprobs": True}
    answer = http.post("/chat/completions", json=body | {"top_logprobs": 3})
    if answer.status_code != 200:
        check_error(answer, 400, param="top_logprobs")
        pytest.skip("this engine has no alternatives, and says so")
    logprobs = ChatCompletion.model_validate(answer.json()).choices[0].logprobs
    assert logprobs and logprobs.content
    for token in logprobs.content:
        alternatives = [top.logprob for top in token.top_logprobs]
        assert len(alternatives) == 3
        assert alternatives == sorted(alternatives, reverse=True)
        assert math.isclose(token.logprob, alternatives[0], abs_tol=1e-3)  # greedy took the likeliest
        assert sum(map(math.exp, alternatives)) <= 1.001


def test_a_system_message_and_a_conversation(client: OpenAI, model: str) -> None:
    chat: Any = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Hello, "}, {"type": "text", "text": "you"}],
            "name": "Jo",
        },
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "What is 2 + 2?"},
    ]
    answer = client.chat.completions.create(model=model, messages=chat, max_tokens=8)
    assert answer.usage and answer.usage.prompt_tokens > 20


def test_penalties_and_top_p_are_accepted(client: OpenAI, model: str) -> None:
    client.chat.completions.create(
        model=model, messages=COUNT, max_tokens=8, presence_penalty=0.5, frequency_penalty=-0.5, top_p=0.9, user="u"
    )


def test_the_default_limit_is_not_a_handful(client: OpenAI, model: str) -> None:
    """Without max_tokens, an answer goes on until the model or the context ends it."""
    answer = client.chat.completions.create(model=model, messages=COUNT, temperature=0, stop="12")
    assert answer.choices[0].finish_reason == "stop"
