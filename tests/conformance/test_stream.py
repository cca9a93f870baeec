"""/v1/chat/completions, streamed: the order of chunks, usage, and text that survives being cut anywhere."""

from typing import Any

import httpx
import pytest
from openai import OpenAI

from tests.conformance.target import DONE, events, user

HARD_TEXTS = [
    "Repeat after me, nothing else: 👩‍👩‍👧‍👦🏳️‍🌈👍🏽🇵🇹 👩‍👩‍👧‍👦🏳️‍🌈👍🏽🇵🇹",
    "请重复这句话：海港的灯一盏一盏地熄灭了。海港的灯一盏一盏地熄灭了。",
    "दोहराओ: बंदरगाह की बत्तियाँ एक-एक करके बुझ गईं। बंदरगाह की बत्तियाँ",
    "日本語で繰り返して：港の明かりが一つずつ消えていった。港の明かりが",
]


def chunks(http: httpx.Client, model: str, **fields: Any) -> list[Any]:
    """The chunks of a stream, without [DONE]; checks that it ends with it."""
    found = events(http, "/chat/completions", {"model": model, "messages": user("Tell me a story."), **fields})
    assert found[-1] == DONE
    assert DONE not in found[:-1]
    return found[:-1]


def test_shape(http: httpx.Client, model: str) -> None:
    found = chunks(http, model, max_tokens=8)
    assert len({chunk["id"] for chunk in found}) == 1
    assert len({chunk["created"] for chunk in found}) == 1
    assert {chunk["object"] for chunk in found} == {"chat.completion.chunk"}
    assert {chunk["model"] for chunk in found} == {model}
    choices = [choice for chunk in found for choice in chunk["choices"]]
    assert choices[0]["delta"]["role"] == "assistant"
    assert not any("role" in choice["delta"] for choice in choices[1:])
    assert [choice["finish_reason"] for choice in choices[:-1]] == [None] * (len(choices) - 1)
    assert choices[-1]["finish_reason"] == "length"
    assert len([choice for choice in choices if choice["delta"].get("content")]) > 1


def test_strict(client: OpenAI, model: str) -> None:
    with client.chat.completions.create(model=model, messages=user("Hi"), max_tokens=6, stream=True) as stream:
        found = list(stream)
    assert found[-1].choices[0].finish_reason in ("stop", "length")


def test_usage_comes_last_and_only_if_asked(http: httpx.Client, model: str) -> None:
    assert not any(chunk.get("usage") for chunk in chunks(http, model, max_tokens=4))
    *others, last = chunks(http, model, max_tokens=4, stream_options={"include_usage": True})
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 4
    assert last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + 4
    assert all(chunk["choices"] and "usage" in chunk and chunk["usage"] is None for chunk in others)


def test_n(http: httpx.Client, model: str) -> None:
    found = chunks(http, model, max_tokens=6, n=2, temperature=1)
    for index in (0, 1):
        mine = [choice for chunk in found for choice in chunk["choices"] if choice["index"] == index]
        assert mine[0]["delta"]["role"] == "assistant"
        assert [choice["finish_reason"] for choice in mine if choice["finish_reason"]] == ["length"]


def test_logprobs(http: httpx.Client, model: str) -> None:
    found = chunks(http, model, max_tokens=8, logprobs=True, temperature=0)
    choices = [choice for chunk in found for choice in chunk["choices"]]
    tokens = [token for choice in choices if choice["logprobs"] for token in choice["logprobs"]["content"]]
    assert len(tokens) == 8
    assert all(token["logprob"] <= 0 and token["top_logprobs"] == [] for token in tokens)


@pytest.mark.parametrize("text", HARD_TEXTS, ids=["emoji", "chinese", "hindi", "japanese"])
def test_no_character_is_broken(http: httpx.Client, client: OpenAI, model: str, text: str) -> None:
    whole = client.chat.completions.create(model=model, messages=user(text), max_tokens=48, temperature=0)
    found = chunks(http, model, messages=user(text), max_tokens=48, temperature=0)
    pieces = [choice["delta"].get("content") or "" for chunk in found for choice in chunk["choices"]]
    assert "".join(pieces) == whole.choices[0].message.content
    assert not any("\ufffd" in piece for piece in pieces[:-2])


def test_a_stop_string_does_not_leak(http: httpx.Client, client: OpenAI, model: str) -> None:
    story = user("Tell me a story.")
    whole = client.chat.completions.create(model=model, messages=story, max_tokens=60, temperature=0)
    text = whole.choices[0].message.content or ""
    stop = text[len(text) // 2 :][1:8]
    found = chunks(http, model, max_tokens=60, temperature=0, stop=[stop])
    pieces = [choice["delta"].get("content") or "" for chunk in found for choice in chunk["choices"]]
    assert "".join(pieces) == text[: text.index(stop)]
    assert found[-1]["choices"][0]["finish_reason"] == "stop"
