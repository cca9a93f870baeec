"""Guided answers of the real model, and guides that its engine cannot take."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.supervisor import Running
from tests.e2e.servers import metric
from tests.gateway.conftest import CHAT, RESPONSES, TEXT, gateway, until, user
from tests.gateway.test_keys import new_key

CITY: dict[str, Any] = {"type": "string", "maxLength": 20}
PLACE = {"type": "object", "properties": {"city": CITY}, "required": ["city"], "additionalProperties": False}
REFERRING = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/City"}},
    "required": ["city"],
    "$defs": {"City": CITY},
}


@pytest.fixture
def http(real: httpx.Client) -> httpx.Client:
    return real


def chat(http: httpx.Client, **fields: Any) -> httpx.Response:
    body = {"model": "smollm2-135m", "messages": user("Where is Lisbon?"), "max_tokens": 60, "temperature": 0}
    return http.post(CHAT, json=body | fields)


def form(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "place", "schema": schema}}


@pytest.mark.parametrize(
    "fields", [{"response_format": form(PLACE)}, {"guided_json": PLACE}, {"structured_outputs": {"json": PLACE}}]
)
def test_an_answer_fits_its_schema(http: httpx.Client, fields: dict[str, Any]) -> None:
    choice = chat(http, **fields).json()["choices"][0]
    assert set(json.loads(choice["message"]["content"])) == {"city"}
    assert choice["finish_reason"] == "stop"


def test_an_expression(http: httpx.Client) -> None:
    assert chat(http, guided_regex="[0-9]{3}").json()["choices"][0]["message"]["content"].isdigit()


@pytest.mark.parametrize("schema", [PLACE, REFERRING])
@pytest.mark.parametrize("parallel", [True, False])
def test_a_call_that_must_be_made(http: httpx.Client, schema: Any, parallel: bool) -> None:
    tools = [{"type": "function", "function": {"name": name, "parameters": schema}} for name in ("moon", "sun")]
    fields = {"tools": tools, "tool_choice": "required", "parallel_tool_calls": parallel}
    choice = chat(http, **fields, max_tokens=200).json()["choices"][0]
    assert choice["message"]["content"] is None
    for call in choice["message"]["tool_calls"][: None if choice["finish_reason"] == "tool_calls" else -1]:
        assert call["function"]["name"] in ("moon", "sun")
        assert set(json.loads(call["function"]["arguments"])) == {"city"}
    if not parallel:
        assert len(choice["message"]["tool_calls"]) == 1


def test_a_call_or_a_text_of_a_form(http: httpx.Client) -> None:
    tools = [{"type": "function", "function": {"name": "moon", "parameters": REFERRING}}]
    message = chat(http, tools=tools, response_format=form(PLACE), max_tokens=120).json()["choices"][0]["message"]
    made = message.get("tool_calls") or [{"function": {"name": "moon", "arguments": message["content"]}}]
    assert set(json.loads(made[0]["function"]["arguments"])) == {"city"}
    required = chat(http, tools=tools, response_format=form({"type": "null"}), tool_choice="required", max_tokens=120)
    assert required.json()["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "moon"


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_is_cut_off_is_no_content(http: httpx.Client, stream: bool) -> None:
    tools = [{"type": "function", "function": {"name": "moon", "parameters": PLACE}}]
    answer = chat(http, tools=tools, tool_choice="required", max_tokens=4, stream=stream).text
    assert '"finish_reason":"length"' in answer
    assert "name\\" not in answer


def test_a_key_with_an_umlaut(http: httpx.Client) -> None:
    schema = {
        "type": "object",
        "properties": {"größe": {"type": "integer", "maximum": 99, "minimum": 1}},
        "required": ["größe"],
    }
    assert set(json.loads(chat(http, guided_json=schema).json()["choices"][0]["message"]["content"])) == {"größe"}


def test_a_keyword_that_cannot_be_kept(http: httpx.Client) -> None:
    answer = chat(http, response_format=form({"type": "object", "properties": {"a": {"not": {}}}})).json()["error"]
    assert answer["param"] == "response_format"
    assert "#/properties/a has not" in answer["message"]


def test_a_call_that_is_named(http: httpx.Client) -> None:
    tools = [{"type": "function", "function": {"name": name, "parameters": PLACE}} for name in ("moon", "sun")]
    choice = chat(http, tools=tools, tool_choice={"type": "function", "function": {"name": "sun"}}).json()["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert (call["function"]["name"], choice["finish_reason"]) == ("sun", "tool_calls")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": form({"type": "nonsense"})}, "response_format"),
        ({"response_format": form({"$ref": "#/nowhere"})}, "response_format"),
        ({"guided_json": "not JSON"}, "guided_json"),
        ({"guided_regex": "(["}, "guided_regex"),
        ({"structured_outputs": {"grammar": "root ::= nowhere"}}, "structured_outputs.grammar"),
    ],
)
def test_a_guide_that_the_engine_refuses(http: httpx.Client, fields: Any, param: str, stream: bool) -> None:
    answer = chat(http, **fields, stream=stream)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert chat(http, max_tokens=1).status_code == 200


def test_a_tool_whose_schema_the_engine_refuses(http: httpx.Client) -> None:
    tools = [{"type": "function", "function": {"name": "moon", "parameters": {"type": "nonsense"}}}]
    answer = chat(http, tools=tools, tool_choice="required")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tool_choice")


def test_a_response_that_fits_its_schema(http: httpx.Client) -> None:
    text = {"format": {"type": "json_schema", "name": "place", "schema": PLACE}}
    body = {"model": "smollm2-135m", "input": "Where is Lisbon?", "text": text, "max_output_tokens": 60}
    (item,) = http.post(RESPONSES, json=body).json()["output"]
    assert set(json.loads(item["content"][0]["text"])) == {"city"}
    bad = text | {"format": text["format"] | {"schema": {"type": "nonsense"}}}
    answer = http.post(RESPONSES, json=body | {"text": bad})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "text.format")


def test_log_probabilities(http: httpx.Client) -> None:
    choice = chat(http, logprobs=True, max_tokens=8).json()["choices"][0]
    entries = choice["logprobs"]["content"]
    assert len(entries) == 8
    assert b"".join(bytes(entry["bytes"]) for entry in entries).decode() == choice["message"]["content"]
    assert all(entry["logprob"] <= 0 for entry in entries)
    body = {"model": "smollm2-135m", "prompt": "The sea", "max_tokens": 8, "logprobs": 0, "temperature": 0}
    choice = http.post(TEXT, json=body).json()["choices"][0]
    assert "".join(choice["logprobs"]["tokens"]) == choice["text"]
    assert len(choice["logprobs"]["token_logprobs"]) == 8


def test_one_keys_slow_guides_hold_another_up_by_one(real_server: Running, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    ann, ben = (f"Bearer {new_key(file, name)}" for name in ("ann", "ben"))
    with gateway(real_server, tmp_path, keys=file) as (_, door), ThreadPoolExecutor() as pool:

        def ask(key: str, regex: str) -> httpx.Response:
            with httpx.Client(base_url=door.base_url, timeout=30, headers={"authorization": key}) as http:
                return chat(http, guided_regex=regex, max_tokens=4)

        slow = [pool.submit(ask, ann, f"((a{{0,300}}){{0,300}}){number}") for number in range(3)]
        until(lambda: sum(metric(real_server, "conch_requests_waiting").values()) == 3)
        assert ask(ben, "[0-9]{3}").status_code == 200
        assert sum(each.done() for each in slow) <= 1
        assert {each.result().status_code for each in slow} == {400}
