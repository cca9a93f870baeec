"""Refusals: OpenAI's shape, the right status, the field's name, and never a 5xx."""

import json
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.conformance.target import check_error, user

CHAT = "/chat/completions"
LONE_SURROGATE = user("\ud800")


def test_a_prompt_that_is_too_long(http: httpx.Client, client: OpenAI, model: str) -> None:
    body = {"model": model, "messages": user("word " * 300_000)}
    check_error(http.post(CHAT, json=body), 400, "context_length_exceeded")
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=model, messages=user("word " * 300_000))


def test_an_answer_that_is_too_long(http: httpx.Client, model: str) -> None:
    body = {"model": model, "messages": user("Hi"), "max_tokens": 100_000_000}
    check_error(http.post(CHAT, json=body), 400)


@pytest.mark.parametrize("body", ["", "{", "null", "[]", '"text"', "{'model': 1}", '{"model": "x"', "\x00", "\ud800"])
def test_a_body_that_is_no_json_object(http: httpx.Client, body: str) -> None:
    sent = body.encode(errors="surrogatepass")
    check_error(http.post(CHAT, content=sent, headers={"content-type": "application/json"}), 400)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("temperature", 2.5), ("temperature", -1), ("temperature", "hot"), ("top_p", 1.5), ("top_p", -0.1)],
        *[("max_tokens", 0), ("max_tokens", -1), ("max_tokens", 1.5), ("n", 0), ("n", "two"), ("stop", 7)],
        *[("presence_penalty", 3), ("frequency_penalty", -3), ("seed", "x"), ("stream", "yes"), ("logit_bias", [])],
        *[("top_logprobs", 3), ("tools", "none"), ("tools", [{}]), ("response_format", {"type": "xml"})],
        *[("messages", []), ("messages", "Hi"), ("messages", [{}]), ("messages", [{"role": "user"}])],
        ("messages", [{"role": "pirate", "content": "Hi"}]),
        ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
        ("messages", LONE_SURROGATE),
    ],
)
def test_a_bad_value_is_400(http: httpx.Client, model: str, field: str, value: Any) -> None:
    body = json.dumps({"model": model, "messages": user("Hi"), "max_tokens": 2} | {field: value})
    answer = http.post(CHAT, content=body, headers={"content-type": "application/json"})
    check_error(answer, 400)
    if value != LONE_SURROGATE:  # to some parsers it is no JSON
        error = answer.json()["error"]
        assert field in f"{error['param']} {error['message']}"


@pytest.mark.parametrize("field", ["model", "messages"])
def test_a_missing_field_is_400(http: httpx.Client, model: str, field: str) -> None:
    body = {"model": model, "messages": user("Hi")}
    del body[field]
    answer = http.post(CHAT, json=body)
    check_error(answer, 400)
    assert field in answer.text


def test_an_unknown_field_is_ignored_or_named(http: httpx.Client, model: str) -> None:
    answer = http.post(CHAT, json={"model": model, "messages": user("Hi"), "max_tokens": 2, "colour": "blue"})
    if answer.status_code != 200:
        check_error(answer, 400)
        assert "colour" in answer.text


@pytest.mark.parametrize("field", ["user", "metadata", "store", "service_tier", "parallel_tool_calls"])
def test_what_every_client_may_send_is_accepted(http: httpx.Client, model: str, field: str) -> None:
    value: Any = {"user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"}.get(field, True)
    body = {"model": model, "messages": user("Hi"), "max_tokens": 2, field: value}
    assert http.post(CHAT, json=body).status_code == 200


def test_nulls_are_defaults(http: httpx.Client, model: str) -> None:
    names = ["temperature", "top_p", "n", "stop", "seed", "logprobs", "tools", "stream", "user", "response_format"]
    body = {"model": model, "messages": user("Hi"), "max_tokens": 2} | dict.fromkeys(names)
    assert http.post(CHAT, json=body).status_code == 200


def test_deep_nesting(http: httpx.Client, model: str) -> None:
    deep = "[" * 50_000 + "]" * 50_000
    body = f'{{"model": {json.dumps(model)}, "messages": {deep}}}'
    check_error(http.post(CHAT, content=body, headers={"content-type": "application/json"}), 400)


def test_a_huge_body(http: httpx.Client, model: str) -> None:
    """Refused without reading it all into a prompt: 413, or 400 for the prompt's length."""
    body = json.dumps({"model": model, "messages": user("x" * 40_000_000)}).encode()
    try:
        answer = http.post(CHAT, content=body, headers={"content-type": "application/json"})
    except httpx.WriteError:  # closed while we were still sending: a refusal too
        return
    assert answer.status_code in (400, 413)
    check_error(answer, answer.status_code)


def test_an_unknown_path_is_404(http: httpx.Client) -> None:
    assert http.get("/no/such/path").status_code == 404


def test_a_wrong_method_is_405(http: httpx.Client) -> None:
    assert http.delete("/models").status_code == 405


def test_a_refusal_of_a_stream_is_no_stream(http: httpx.Client, model: str) -> None:
    body = {"model": model, "messages": user("Hi"), "stream": True, "temperature": 9}
    check_error(http.post(CHAT, json=body), 400)
