"""/v1/completions: one text or several, continued."""

from typing import Any

import httpx
import pytest
from openai import OpenAI

from tests.conformance.target import DONE, events

PROMPT = "The lighthouse keeper said that"


def test_shape(client: OpenAI, model: str) -> None:
    answer = client.completions.create(model=model, prompt=PROMPT, max_tokens=8, temperature=0)
    assert answer.object == "text_completion"
    (choice,) = answer.choices
    assert choice.text and choice.finish_reason == "length"
    assert answer.usage and answer.usage.completion_tokens == 8


def test_streamed_is_unstreamed(http: httpx.Client, client: OpenAI, model: str) -> None:
    whole = client.completions.create(model=model, prompt=PROMPT, max_tokens=24, temperature=0)
    body: dict[str, Any] = {"model": model, "prompt": PROMPT, "max_tokens": 24, "temperature": 0}
    found = events(http, "/completions", body)
    assert found.pop() == DONE
    assert len({chunk["id"] for chunk in found}) == 1
    assert "".join(chunk["choices"][0]["text"] for chunk in found) == whole.choices[0].text
    assert found[-1]["choices"][0]["finish_reason"] == "length"


def test_several_prompts(client: OpenAI, model: str) -> None:
    answer = client.completions.create(model=model, prompt=[PROMPT, "Once upon a time"], max_tokens=4, n=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]


def test_logprobs(client: OpenAI, model: str) -> None:
    answer = client.completions.create(model=model, prompt=PROMPT, max_tokens=6, temperature=0, logprobs=0)
    found = answer.choices[0].logprobs
    assert found and found.tokens and found.token_logprobs and found.text_offset
    assert len(found.tokens) == len(found.token_logprobs) == len(found.text_offset) == 6
    assert all(value is not None and value <= 0 for value in found.token_logprobs)
    assert "".join(found.tokens) == answer.choices[0].text


@pytest.mark.parametrize("answer_tokens", [0, 1])
def test_a_prompt_has_logprobs(http: httpx.Client, model: str, answer_tokens: int) -> None:
    """Not through OpenAI's client, whose types do not know of the first token's null."""
    body: dict[str, Any] = {"model": model, "prompt": PROMPT, "max_tokens": 4, "temperature": 0}
    prompt = PROMPT + http.post("/completions", json=body).json()["choices"][0]["text"]
    asked = body | {"prompt": prompt, "max_tokens": answer_tokens, "echo": True, "logprobs": 2}
    answer = http.post("/completions", json=asked).json()
    (choice,) = answer["choices"]
    text, found = choice["text"], choice["logprobs"]
    tokens, values, tops = found["tokens"], found["token_logprobs"], found["top_logprobs"]
    assert text.startswith(prompt) and "".join(tokens) == text and choice["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == answer_tokens
    assert len(tokens) == len(values) == len(tops) == answer["usage"]["total_tokens"]
    for token, offset in zip(tokens, found["text_offset"], strict=True):
        assert text[offset:].startswith(token)
    assert values[0] is tops[0] is None
    for value, ranked in zip(values[1:], tops[1:], strict=True):
        assert value <= 0 and value in ranked.values() and 2 <= len(ranked) <= 3
    for value, ranked in list(zip(values, tops, strict=True))[-3 - answer_tokens :]:
        assert value == max(ranked.values()), "what was said greedily is the likeliest"


def test_stop(client: OpenAI, model: str) -> None:
    whole = client.completions.create(model=model, prompt=PROMPT, max_tokens=30, temperature=0).choices[0].text
    answer = client.completions.create(model=model, prompt=PROMPT, max_tokens=30, temperature=0, stop=whole[9:14])
    assert answer.choices[0].text == whole[: whole.index(whole[9:14])]
    assert answer.choices[0].finish_reason == "stop"
