"""Tools: calls that must be made are made and fit their schema; streamed calls carry their index."""

import json
from typing import Any

import httpx
import jsonschema_rs
import pytest
from openai import OpenAI

from tests.conformance.target import DONE, check_error, events, user

TIDE = {
    "type": "object",
    "properties": {
        "port": {"enum": ["Lisbon", "Vigo", "Brest"]},
        "day": {"type": "integer", "minimum": 1, "maximum": 31},
    },
    "required": ["port", "day"],
    "additionalProperties": False,
}
MOON = {
    "type": "object",
    "properties": {"phase": {"enum": ["new", "full"]}},
    "required": ["phase"],
    "additionalProperties": False,
}
SCHEMAS = {"get_tide": TIDE, "next_moon": MOON}
TOOLS: Any = [
    {"type": "function", "function": {"name": name, "description": f"{name} at sea", "parameters": schema}}
    for name, schema in SCHEMAS.items()
]
QUESTION = user("When is high water in Vigo on the 3rd, and when is the next full moon?")
NAMED: Any = {"type": "function", "function": {"name": "next_moon"}}


def check_call(name: str, arguments: str) -> None:
    jsonschema_rs.validate(SCHEMAS[name], json.loads(arguments))


def test_required(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model,
        messages=QUESTION,
        tools=TOOLS,
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=150,
        temperature=0,
    )
    (choice,) = answer.choices
    (call,) = choice.message.tool_calls or []
    assert call.type == "function" and call.id
    check_call(call.function.name, call.function.arguments)
    assert choice.finish_reason == "tool_calls"
    assert not choice.message.content


def test_named(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=QUESTION, tools=TOOLS, tool_choice=NAMED, max_tokens=100, temperature=0
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function" and call.function.name == "next_moon"
    check_call(call.function.name, call.function.arguments)
    assert answer.choices[0].finish_reason in ("stop", "tool_calls")  # OpenAI's own says stop here


def test_parallel(client: OpenAI, model: str) -> None:
    """As many as the model likes; every one is whole but the one that the limit cuts."""
    answer = client.chat.completions.create(
        model=model, messages=QUESTION, tools=TOOLS, tool_choice="required", max_tokens=150, temperature=0
    )
    (choice,) = answer.choices
    calls = choice.message.tool_calls or []
    assert calls
    assert len({call.id for call in calls}) == len(calls)
    for call in calls if choice.finish_reason == "tool_calls" else calls[:-1]:
        assert call.type == "function"
        check_call(call.function.name, call.function.arguments)


def test_auto_answers_or_calls(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=QUESTION, tools=TOOLS, tool_choice="auto", max_tokens=60, temperature=0
    )
    (choice,) = answer.choices
    assert choice.message.content or choice.message.tool_calls
    for call in choice.message.tool_calls or []:
        assert call.type == "function" and call.function.name
    assert (choice.finish_reason == "tool_calls") <= bool(choice.message.tool_calls)


def test_none_never_calls(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=QUESTION, tools=TOOLS, tool_choice="none", max_tokens=30, temperature=0
    )
    assert not answer.choices[0].message.tool_calls
    assert answer.choices[0].message.content


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_streamed(http: httpx.Client, model: str, choice: Any) -> None:
    body = {"model": model, "messages": QUESTION, "tools": TOOLS, "tool_choice": choice, "max_tokens": 150}
    found = events(http, "/chat/completions", body | {"temperature": 0, "parallel_tool_calls": False})
    assert found.pop() == DONE
    choices = [choice for chunk in found for choice in chunk["choices"]]
    deltas = [call for choice in choices for call in choice["delta"].get("tool_calls", [])]
    assert {delta["index"] for delta in deltas} == {0}
    first, *rest = deltas
    assert first["id"] and first["type"] == "function"
    assert not any("id" in delta or "name" in delta["function"] for delta in rest)  # a repeated name would be appended
    assert len(rest) > 1  # the arguments stream
    check_call(first["function"]["name"], "".join(delta["function"]["arguments"] for delta in deltas))
    assert choices[-1]["finish_reason"] in ("tool_calls", "stop")


def test_streamed_strict(client: OpenAI, model: str) -> None:
    with client.chat.completions.stream(
        model=model, messages=QUESTION, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, max_tokens=150
    ) as stream:
        for _ in stream:
            pass
        (call,) = stream.get_final_completion().choices[0].message.tool_calls or []
    check_call(call.function.name, call.function.arguments)


def test_the_result_goes_back(client: OpenAI, model: str) -> None:
    call = {"id": "abcdefghi", "type": "function", "function": {"name": "next_moon", "arguments": '{"phase": "full"}'}}
    chat: Any = [
        *QUESTION,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "abcdefghi", "content": "on the 9th"},
    ]
    answer = client.chat.completions.create(model=model, messages=chat, tools=TOOLS, max_tokens=40, temperature=0)
    assert answer.choices[0].message.content or answer.choices[0].message.tool_calls


def test_a_tool_that_is_not_offered_cannot_be_named(http: httpx.Client, model: str) -> None:
    named = {"type": "function", "function": {"name": "no_such_tool"}}
    body = {"model": model, "messages": QUESTION, "tools": TOOLS, "tool_choice": named}
    check_error(http.post("/chat/completions", json=body), 400)
