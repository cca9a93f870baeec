"""The Responses door as agents use it, over an engine that says its prompt back."""

import json
from typing import Any

import httpx
import pytest
from openai import OpenAI

from gateway.response_input import as_chat, encrypted
from gateway.response_tools import tools_of
from gateway.schema.responses import ResponsesBody
from serving.supervisor import Running
from tests.gateway.conftest import INPUT, RESPONSES, origin
from tests.gateway.test_answers import events

MODEL = "synthetic"
SCHEMA: dict[str, Any] = {"type": "object"}
MOON = {"type": "function", "name": "moon", "parameters": SCHEMA, "strict": False}
SKY = {"type": "namespace", "name": "sky", "description": "d", "tools": [MOON]}
WRITE = {"type": "custom", "name": "write", "description": "d"}
LARK = {"format": {"type": "grammar", "syntax": "lark", "definition": "x"}}
REGEX = {"format": {"type": "grammar", "syntax": "regex", "definition": "a+"}}


def call(name: str, arguments: dict[str, Any]) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


@pytest.fixture(scope="module")
def openai(server: Running) -> OpenAI:
    return OpenAI(base_url=f"{origin(server)}/v1", api_key="-", max_retries=0, _strict_response_validation=True)


def whole(http: httpx.Client, **fields: Any) -> dict[str, Any]:
    """A response that says its whole prompt."""
    body = {"model": MODEL, "input": "x"} | fields
    tokens = http.post(INPUT, json=body).json()["input_tokens"]
    answer: dict[str, Any] = http.post(RESPONSES, json=body | {"max_output_tokens": tokens}).json()
    assert answer["usage"]["input_tokens"] == tokens
    return answer


def test_what_codex_sends(openai: OpenAI) -> None:
    """Codex 0.171's request, shortened, and its second turn."""
    items: Any = [
        {"type": "message", "id": "msg_1", "role": "developer", "content": [{"type": "input_text", "text": "a"}]},
        {"type": "message", "id": "msg_2", "role": "developer", "content": [{"type": "input_text", "text": "b"}]},
        {"type": "message", "id": "msg_3", "role": "user", "content": [{"type": "input_text", "text": "c"}]},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "hm"}],
            "encrypted_content": None,
        },
        {
            "type": "function_call",
            "status": "completed",
            "id": "fc_1",
            "name": "exec_command",
            "arguments": '{"cmd": "ls"}',
            "call_id": "abcdefghi",
        },
        {"type": "function_call_output", "id": "fco_1", "call_id": "abcdefghi", "output": "exited with code 1"},
    ]
    body: Any = {
        "model": MODEL,
        "input": items,
        "tools": [MOON, SKY, {"type": "web_search", "external_web_access": False}],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"summary": "auto", "effort": "medium"},
        "text": {"verbosity": "low"},
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "max_output_tokens": 16,
        "prompt_cache_key": "k",
        "extra_body": {"client_metadata": {"thread_id": "t"}},
    }
    answer = openai.responses.create(**body)
    assert answer.status == "incomplete"
    assert answer.reasoning and answer.reasoning.effort == "medium"
    assert answer.text and answer.text.verbosity == "low"
    assert [tool.type for tool in answer.tools] == ["function", "namespace", "web_search"]


def test_the_model_reads_names_with_their_namespace_and_no_web_search(http: httpx.Client) -> None:
    said = [
        {"type": "custom_tool_call", "call_id": "1", "name": "write", "input": "é"},
        {"role": "user", "content": "x"},
    ]
    answer = whole(http, tools=[SKY, WRITE, {"type": "web_search"}], input=[*said, {"role": "user", "content": "x"}])
    text = json.dumps(answer["output"], ensure_ascii=False)
    assert "sky.moon" in text and "web_search" not in text


@pytest.mark.parametrize(
    ("tool", "name", "arguments", "expected"),
    [
        (MOON, "moon", {"day": 3}, {"type": "function_call", "name": "moon", "arguments": '{"day": 3}'}),
        (SKY, "sky.moon", {}, {"type": "function_call", "name": "moon", "namespace": "sky", "arguments": "{}"}),
        (WRITE, "write", {"input": 'a\n"b'}, {"type": "custom_tool_call", "name": "write", "input": 'a\n"b'}),
    ],
)
def test_calls_come_back_as_their_tools_were_offered(
    http: httpx.Client, tool: dict[str, Any], name: str, arguments: dict[str, Any], expected: dict[str, str]
) -> None:
    found = whole(http, input=call(name, arguments), tools=[tool])["output"][-1]
    assert found.items() >= expected.items()
    assert found["call_id"]
    body = {"model": MODEL, "input": call(name, arguments), "tools": [tool], "max_output_tokens": 1000}
    told = events(http, RESPONSES, body)
    items = told[-1]["response"]["output"]
    done = [event["item"] for event in told if event["type"] == "response.output_item.done"]
    added = [event["item"] for event in told if event["type"] == "response.output_item.added"]
    assert done == items
    for name_ in ("id", "call_id"):  # from the first event to the result
        assert [item.get(name_) for item in added] == [item.get(name_) for item in items]
    kind = expected["type"]
    pieces = {"function_call": "function_call_arguments", "custom_tool_call": "custom_tool_call_input"}[kind]
    for at, item in enumerate(items):
        if item["type"] == kind:
            joined = "".join(
                event["delta"]
                for event in told
                if event["type"] == f"response.{pieces}.delta" and event["item_id"] == item["id"]
            )
            assert joined == item["arguments" if kind == "function_call" else "input"], at


def test_open_responses_fields_are_there(http: httpx.Client) -> None:
    answer = http.post(RESPONSES, json={"model": MODEL, "input": "x", "max_output_tokens": 2}).json()
    assert set(answer) >= OPEN_RESPONSES
    assert {name for name in OPEN_RESPONSES if answer[name] is None} == {
        *("error", "instructions", "max_tool_calls", "previous_response_id", "prompt_cache_key", "safety_identifier")
    }


# What openresponses.org requires of a response.
OPEN_RESPONSES = {
    *("background", "completed_at", "created_at", "error", "frequency_penalty", "id", "incomplete_details"),
    *("instructions", "max_output_tokens", "max_tool_calls", "metadata", "model", "object", "output"),
    *("parallel_tool_calls", "presence_penalty", "previous_response_id", "prompt_cache_key", "reasoning"),
    *("safety_identifier", "service_tier", "status", "store", "temperature", "text", "tool_choice", "tools"),
    *("top_logprobs", "top_p", "truncation", "usage"),
}


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"input": "x" * 200_000}, "input", "input: "),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]", "'input_image'"),
        ({"input": [{"type": "item_reference", "id": "1"}]}, "input[0]", "'item_reference'"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "not stored"),
        ({"tools": [{"type": "file_search"}]}, "tools[0]", "'file_search'"),
        ({"tools": [WRITE | REGEX]}, "tools", "has a grammar"),
        ({"tools": [WRITE | LARK]}, "tools[0].format.syntax", "'regex'"),
        ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, "tool_choice", "tool_choice: needs a tool"),
        ({"tools": [MOON], "tool_choice": {"type": "custom", "name": "moon"}}, "tool_choice", "names no tool"),
        ({"tools": [MOON], "tool_choice": {"type": "web_search"}}, "tool_choice", "'web_search'"),
        ({"tools": [MOON], "tool_choice": {"type": "allowed_tools", "mode": "x"}}, "tool_choice.mode", "'required'"),
    ],
)
def test_refusals_name_the_field(http: httpx.Client, fields: dict[str, Any], param: str, said: str) -> None:
    answer = http.post(RESPONSES, json={"model": MODEL, "input": "x"} | fields)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param and said in error["message"], error


@pytest.mark.parametrize(
    "kept", [{"content": [{"type": "reasoning_text", "text": "hm"}]}, {"encrypted_content": encrypted("hm")}]
)
def test_reasoning_goes_back_to_the_message_it_led_to(kept: dict[str, Any]) -> None:
    items = [
        {"role": "user", "content": "x"},
        {"type": "reasoning", "summary": [], **kept},
        {"type": "message", "role": "assistant", "content": "a"},
        {"type": "function_call", "call_id": "1", "name": "moon", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "full"},
        {"type": "reasoning", "summary": [], "encrypted_content": "of another provider"},
        {"role": "assistant", "content": "b"},
    ]
    body = ResponsesBody.model_validate({"model": MODEL, "input": items})
    turns = as_chat(body, tools_of(None, None), "").messages
    assert [(turn.role, turn.reasoning_content, len(turn.tool_calls or ())) for turn in turns] == [
        ("user", None, 0),
        ("assistant", "hm", 1),
        ("tool", None, 0),
        ("assistant", None, 0),
    ]
