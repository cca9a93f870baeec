"""The Messages door over an engine that says its prompt back: what the model reads, and what comes of its answer."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from clients.request import Delta
from gateway.answer import Answer
from gateway.dialect import anthropic_error
from gateway.errors import ApiError
from gateway.generate import Numbered
from gateway.journey import Journey
from gateway.messages import Message
from gateway.parsers import parser_for
from gateway.schema.chat import Message as ChatMessage
from gateway.schema.decisions import entries
from gateway.schema.messages import CountBody, MessagesBody
from gateway.turns import settled
from tests.gateway.conftest import COUNT, MESSAGES

MODEL = "synthetic"
MOON: dict[str, Any] = {"name": "moon", "input_schema": {"type": "object"}}
CALL = '<tool_call>\n{"name": "moon", "arguments": {"day": 3, "where": "Vigo"}}\n</tool_call>'
TEXT = {"type": "text", "text": "b"}
RESULT = {"type": "tool_result", "tool_use_id": "1"}
PAGE = {"type": "document", "title": "T", "context": "C", "source": {"type": "text", "data": "D"}}
FOUND = {"type": "search_result", "title": "T", "source": "S", "content": [TEXT]}


def body(content: Any = "x", **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 2, "messages": [{"role": "user", "content": content}]} | fields


def events(http: httpx.Client, asked: dict[str, Any], **headers: str) -> list[Any]:
    text = http.post(MESSAGES, json=asked | {"stream": True}, headers=headers).text
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def read_by_the_model(http: httpx.Client, asked: dict[str, Any]) -> str:
    """The prompt that a request makes, which this engine says back."""
    count = {name: value for name, value in asked.items() if name != "max_tokens"}
    tokens = http.post(COUNT, json=count).json()["input_tokens"]
    answer = http.post(MESSAGES, json=asked | {"max_tokens": tokens}).json()
    assert answer["usage"]["input_tokens"] == tokens
    return "".join(block["text"] for block in answer["content"] if block["type"] == "text")


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({"system": "a"}, "system: a\nuser: x\n"),
        ({"system": [{"type": "text", "text": "a"}, TEXT]}, "system: a\nb\nuser: x\n"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": [TEXT]}]}, "user: a\nb\n"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]}, "user: a\nsystem: b\n"),
        (
            {"messages": [{"role": "user", "content": [RESULT | {"content": "a", "is_error": True}, TEXT]}]},
            "user: <tool_response>\nError: a\n</tool_response>\nuser: b\n",
        ),
        ({"messages": [{"role": "user", "content": [PAGE, FOUND]}]}, "user: T\nC\nD\nT\nS\nb\n"),
        (
            {
                "messages": [
                    {"role": "user", "content": "x"},
                    {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": ""}, TEXT]},
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {"é": 1}}]},
                    {"role": "user", "content": [RESULT]},
                ]
            },
            'user: x\nassistant: b\n<tool_call>\n{"name": "f", "arguments": {"é": 1}}\n</tool_call>\n'
            "user: <tool_response>\n\n</tool_response>\n",
        ),
    ],
)
def test_what_the_model_reads(http: httpx.Client, fields: dict[str, Any], prompt: str) -> None:
    assert read_by_the_model(http, body(**fields)) == prompt


def test_tools_are_shown_with_their_examples(http: httpx.Client) -> None:
    tool = MOON | {"description": "d", "input_examples": [{"day": 9}], "cache_control": {"type": "ephemeral"}}
    prompt = read_by_the_model(http, body(tools=[tool]))
    assert '"examples": [{"day": 9}]' in prompt and "cache_control" not in prompt


@pytest.mark.parametrize(("cut", "read"), [(0, {"day": 3, "where": "Vigo"}), (5, {"day": 3}), (12, {"day": 3})])
def test_a_tool_call(http: httpx.Client, cut: int, read: Any) -> None:
    """Streamed and not, whole and cut in the middle of its input."""
    asked = body(f"see {CALL}", tools=[MOON])
    count = {name: value for name, value in asked.items() if name != "max_tokens"}
    asked["max_tokens"] = http.post(COUNT, json=count).json()["input_tokens"] - cut - len("\n</tool_call>\n")
    whole = http.post(MESSAGES, json=asked).json()
    assert whole["stop_reason"] == "max_tokens"
    call = whole["content"][-1]
    assert (call["type"], call["name"]) == ("tool_use", "moon")
    assert call["input"] == read
    pieces: dict[int, str] = {}
    for event in events(http, asked):
        if event["type"] == "content_block_delta":
            kind = event["delta"].pop("type")
            assert kind in ("text_delta", "input_json_delta")
            pieces[event["index"]] = pieces.get(event["index"], "") + next(iter(event["delta"].values()))
    assert pieces[len(whole["content"]) - 1].startswith('{"day": 3')
    assert [pieces[at] for at, block in enumerate(whole["content"]) if block["type"] == "text"] == [
        block["text"] for block in whole["content"] if block["type"] == "text"
    ]


def test_the_context_may_end_an_answer(http: httpx.Client) -> None:
    answer = http.post(MESSAGES, json=body("x" * 1000, max_tokens=32_000)).json()
    assert answer["stop_reason"] == "model_context_window_exceeded"
    assert answer["usage"]["input_tokens"] + answer["usage"]["output_tokens"] == 4096


def test_a_failure_in_the_middle_is_an_event(http: httpx.Client) -> None:
    *_, last = events(http, body(max_tokens=4000), **{"x-request-timeout": "0.5"})
    assert (last["type"], last["error"]["type"]) == ("error", "timeout_error")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"max_tokens": 0}, "max_tokens: "),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            "messages[0].content[0]: what is of type 'image'",
        ),
        (
            {"messages": [{"role": "user", "content": [RESULT | {"content": [{"type": "image"}]}]}]},
            "content[0].content[0]: what is of type 'image'",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "server_tool_use", "id": "1"}]}]}, "'server_tool_use'"),
        ({"messages": [{"role": "assistant", "content": [RESULT]}]}, "belongs into a message of the user"),
        ({"messages": [{"role": "user", "content": [PAGE | {"source": {"type": "base64", "data": ""}}]}]}, "text only"),
        ({"messages": [{"role": "user", "content": [PAGE | {"citations": {"enabled": True}}]}]}, "citations.enabled: "),
        ({"messages": [{"role": "user", "content": "x", "name": "n"}]}, "messages[0].name"),
        (
            {"tools": [{"type": "bash_20250124", "name": "bash"}]},
            "tools[0]: a tool of type 'bash_20250124' is Anthropic's",
        ),
        ({"tools": [{"name": "moon"}]}, "Missing required parameter: tools[0].input_schema"),
        ({"tools": [MOON | {"defer_loading": True}]}, "tools[0].defer_loading: "),
        ({"tool_choice": {"type": "any"}}, "tool_choice needs tools"),
        ({"tools": [MOON], "tool_choice": {"type": "tool"}}, "tool_choice: name belongs to type 'tool'"),
        ({"stop_sequences": [""]}, "stop_sequences[0]: "),
        ({"thinking": {"type": "between_tools"}}, "thinking.type: "),
        (
            {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
            "context_management.edits[0].type: ",
        ),
        ({"output_config": {"format": {"type": "json_schema", "schema": {"type": "x"}}}}, "output_config.format: "),
        ({"mcp_servers": [{"url": "http://x"}]}, "mcp_servers: no tool runs here"),
        ({"speed": "fast"}, "speed: "),
        ({"container": "c"}, "container: "),
        ({"seed": 1}, "Unknown parameter: seed"),
    ],
)
def test_refusals(http: httpx.Client, fields: dict[str, Any], said: str) -> None:
    answer = http.post(MESSAGES, json=body(**fields))
    assert answer.status_code == 400, answer.text
    assert answer.json()["type"] == "error"
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error" and said in error["message"], error


def test_other_doors_of_an_anthropic_client_fail_in_its_form(http: httpx.Client) -> None:
    headers = {"anthropic-version": "2023-06-01"}
    assert http.get("/v1/models/nobody", headers=headers).json()["error"]["type"] == "not_found_error"
    assert http.delete(MESSAGES).json()["error"]["type"] == "invalid_request_error"
    assert http.post(f"{MESSAGES}/batches", json={}).json()["error"]["type"] == "not_found_error"
    assert "code" in http.get("/v1/models/nobody").json()["error"]
    assert "base URL has no /v1" in http.post("/v1/v1/messages", headers=headers).json()["error"]["message"]
    assert http.get("/v1/models", headers=headers).json()["data"][0]["type"] == "model"
    assert http.get("/v1/models", headers=headers).headers["request-id"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((400, "invalid_request_error"), (401, "authentication_error"), (403, "permission_error")),
        *((404, "not_found_error"), (413, "request_too_large"), (429, "rate_limit_error"), (500, "api_error")),
        (503, "overloaded_error"),
    ],
)
def test_every_status_has_its_type(status: int, kind: str) -> None:
    told = json.loads(anthropic_error(ApiError(status, "why", "server_error")))
    assert told == {"type": "error", "error": {"type": kind, "message": "why"}}


def test_every_field_is_decided() -> None:
    undecided = [
        entry.path for model in (MessagesBody, CountBody) for entry in entries(model) if entry.decision is None
    ]
    assert undecided == []


@pytest.mark.parametrize(
    ("thinking", "kinds"),
    [
        (None, ["thinking", "text", "tool_use"]),
        ({"type": "adaptive", "display": "omitted"}, ["thinking", "text", "tool_use"]),
        ({"type": "disabled"}, ["text", "tool_use"]),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_reasoning(thinking: Any, kinds: list[str], size: int) -> None:
    """Whole, signed or left out, and streamed as not streamed."""
    text = f"<think>\nThe moon?\n</think>\n\nI look. {CALL}"

    async def deltas() -> AsyncGenerator[Numbered, None]:
        for at in range(0, len(text), size):
            yield 0, Delta(text[at : at + size], output_ids=(1,))
        yield 0, Delta(finish_reason="stop", num_input_tokens=9, num_output_tokens=5)

    def message() -> Message:
        answer = Answer(parser_for("hermes", tools=True, reasoning=True))
        return Message(MessagesBody.model_validate(body(thinking=thinking)), [], answer, "msg_1")

    async def streamed() -> list[Any]:
        written = b"".join([chunk async for chunk in message().chunks(deltas(), Journey())])
        return [json.loads(line[6:]) for line in written.decode().splitlines() if line.startswith("data: ")]

    whole = json.loads(asyncio.run(message().whole(deltas(), Journey())))
    assert [block["type"] for block in whole["content"]] == kinds
    assert whole["stop_reason"] == "tool_use"
    assert whole["usage"]["output_tokens_details"]["thinking_tokens"] > 0
    if "thinking" in kinds:
        assert whole["content"][0]["thinking"] == ("The moon?" if thinking is None else "")
        assert whole["content"][0]["signature"]
    found = asyncio.run(streamed())
    blocks = [event["content_block"] for event in found if event["type"] == "content_block_start"]
    for event in found:
        if event["type"] == "content_block_delta":
            kind, value = event["delta"].values()
            block, name = blocks[event["index"]], FIELD[kind]
            block[name] = (block[name] or "") + value
    for block, expected in zip(blocks, whole["content"], strict=True):
        if block["type"] == "tool_use":
            block["input"] = json.loads(block["input"])
            block["id"] = expected["id"]
        assert block == expected


@pytest.mark.parametrize(("cached", "told"), [(None, (9, None)), (0, (9, 0)), (8, (1, 8))])
def test_what_the_cache_held_is_told_apart(cached: int | None, told: tuple[int, int | None]) -> None:
    """As Anthropic counts: the input's tokens are those that no cache had."""

    async def deltas() -> AsyncGenerator[Numbered, None]:
        yield 0, Delta("Hi", num_input_tokens=9, output_ids=(1,))
        yield 0, Delta(finish_reason="stop", num_input_tokens=9, num_output_tokens=1, num_cached_tokens=cached)

    def message() -> Message:
        return Message(MessagesBody.model_validate(body()), [], Answer(), "msg_1")

    async def end() -> str:
        *_, last = [chunk async for chunk in message().chunks(deltas(), Journey())]
        return last.decode()

    whole = json.loads(asyncio.run(message().whole(deltas(), Journey())))
    told_last = next(event for event in asyncio.run(end()).split("\n\n") if event.startswith("event: message_delta"))
    for usage in (whole["usage"], json.loads(told_last.partition("data: ")[2])["usage"]):
        assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == told
        assert usage["cache_creation_input_tokens"] is None


FIELD = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "input",
}


STRICT = (
    "{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ raise_exception('!') }}{% endif %}"
    "{{ m.content }}{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("", [("system", "a\nb"), ("user", "c"), ("system", "d"), ("user", "e\nf"), ("tool", "g"), ("tool", "h")]),
        (STRICT, [("system", "a\nb"), ("user", "c\nd\ne\nf"), ("tool", "g"), ("tool", "h")]),
    ],
)
def test_speakers_alternate_and_a_late_system_message_is_where_the_template_takes_it(
    template: str, expected: list[tuple[str, str]]
) -> None:
    said: list[tuple[Any, str]] = [("system", "a"), ("developer", "b"), ("user", "c"), ("developer", "d")]
    turns = [ChatMessage(role=role, content=text) for role, text in [*said, ("user", "e"), ("user", "f")]]
    turns += [ChatMessage(role="tool", content=text, tool_call_id="1") for text in "gh"]
    assert [(turn.role, turn.content) for turn in settled(turns, template)] == expected
