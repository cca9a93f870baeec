"""/v1/responses: made, and streamed in its own sequence of events."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai import BadRequestError, OpenAI
from openai.types.responses import Response
from openai.types.responses.response_usage import InputTokensDetails

from tests.conformance.target import Target, check_error
from tests.conformance.test_tools import MOON, check_call


@pytest.fixture(scope="module")
def client(target: Target) -> Iterator[OpenAI]:
    """OpenAI's client, lenient: the types want to know what the cache had, which an engine may not tell."""
    with OpenAI(base_url=target.base_url, api_key=target.api_key or "none", max_retries=0, timeout=120) as made:
        yield made


def test_shape(client: OpenAI, model: str) -> None:
    answer = client.responses.create(model=model, input="Say hello.", max_output_tokens=16, temperature=0)
    assert answer.object == "response"
    assert answer.status in ("completed", "incomplete")
    if answer.status == "incomplete":
        assert answer.incomplete_details and answer.incomplete_details.reason == "max_output_tokens"
    assert answer.output_text
    assert answer.usage and answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    if answer.usage.input_tokens_details is None:  # the one thing in which it may differ from its type
        answer.usage.input_tokens_details = InputTokensDetails(cached_tokens=0, cache_write_tokens=0)
    assert Response.model_validate(answer.model_dump())


def test_instructions_and_messages(client: OpenAI, model: str) -> None:
    chat: Any = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Hello.", "annotations": []}]},
        {"role": "user", "content": [{"type": "input_text", "text": "What is 2 + 2?"}]},
    ]
    answer = client.responses.create(model=model, instructions="Be brief.", input=chat, max_output_tokens=16)
    assert answer.output_text


def test_streamed(client: OpenAI, model: str) -> None:
    whole = client.responses.create(model=model, input="Tell me a story.", max_output_tokens=20, temperature=0)
    with client.responses.create(
        model=model, input="Tell me a story.", max_output_tokens=20, temperature=0, stream=True
    ) as stream:
        found = list(stream)
    kinds = [event.type for event in found]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] in ("response.completed", "response.incomplete")
    assert [event.sequence_number for event in found] == list(range(len(found)))
    order = [
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
    ]
    assert sorted(order, key=[str(kind) for kind in kinds].index) == order
    assert "".join(event.delta for event in found if event.type == "response.output_text.delta") == whole.output_text


def test_a_function_that_must_be_called(client: OpenAI, model: str) -> None:
    tools: Any = [{"type": "function", "name": "next_moon", "parameters": MOON, "strict": True}]
    answer = client.responses.create(
        model=model,
        input="When is the full moon?",
        tools=tools,
        tool_choice="required",
        parallel_tool_calls=False,
        max_output_tokens=100,
        temperature=0,
    )
    (call,) = [item for item in answer.output if item.type == "function_call"]
    check_call(call.name, call.arguments)


@pytest.mark.parametrize(
    ("field", "value"), [("previous_response_id", "resp_1"), ("background", True), ("conversation", "conv_1")]
)
def test_what_needs_storage_is_refused_by_name_or_honoured(
    http: httpx.Client, model: str, field: str, value: Any
) -> None:
    answer = http.post("/responses", json={"model": model, "input": "Hi", "max_output_tokens": 16, field: value})
    if answer.status_code != 200:
        assert answer.status_code in (400, 404)
        check_error(answer, answer.status_code)
        assert field in answer.text or str(value) in answer.text


@pytest.mark.parametrize("stream", [False, True])
def test_a_custom_tool_that_must_be_called(client: OpenAI, model: str, stream: bool) -> None:
    """Its input is a text, which fits its grammar."""
    form = {"type": "grammar", "syntax": "regex", "definition": "(low|high) at [0-9]{2}:[0-9]{2}"}
    body: Any = {
        "model": model,
        "input": "When is high water?",
        "tools": [{"type": "custom", "name": "write_tide", "format": form}],
        "tool_choice": {"type": "custom", "name": "write_tide"},
        "max_output_tokens": 40,
        "temperature": 0,
    }
    try:
        answer = client.responses.create(**body)
    except BadRequestError as refused:
        assert "grammar" in str(refused) or "custom" in str(refused)
        pytest.skip("the server has no grammars")
    if stream:
        *_, last = client.responses.create(**body, stream=True)
        assert last.type == "response.completed"
        answer = last.response
    (call,) = answer.output
    assert call.type == "custom_tool_call" and call.name == "write_tide" and call.call_id
    assert re.fullmatch(form["definition"], call.input)


def test_what_it_said_it_reads_again(client: OpenAI, model: str) -> None:
    tools: Any = [{"type": "function", "name": "next_moon", "parameters": MOON, "strict": True}]
    asked: Any = {"role": "user", "content": "When is the full moon?"}
    first = client.responses.create(
        model=model, input=[asked], tools=tools, tool_choice="required", max_output_tokens=150, temperature=0
    )
    said = [item.to_dict() for item in first.output]
    gave = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "on the 9th"}
        for item in said
        if item["type"] == "function_call"
    ]
    chat: Any = [asked, *said, *gave]
    answer = client.responses.create(model=model, input=chat, tools=tools, max_output_tokens=16)
    count = client.responses.input_tokens.count(model=model, input=chat, tools=tools)
    assert answer.usage and answer.usage.input_tokens == count.input_tokens
