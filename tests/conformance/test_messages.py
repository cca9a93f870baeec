"""/v1/messages: Anthropic's API through Anthropic's own client, made, streamed and counted."""

import json
from itertools import groupby
from typing import Any

import anthropic as sdk
import httpx
import pytest
from anthropic import Anthropic
from anthropic.types import Message

from tests.conformance.target import Target
from tests.conformance.test_tools import SCHEMAS, check_call

GREEDY = {"temperature": 0}
TOOLS: Any = [{"name": name, "description": f"{name} at sea", "input_schema": SCHEMAS[name]} for name in SCHEMAS]
ONE_CALL: Any = {"type": "any", "disable_parallel_tool_use": True}
PROMPTS = ["Say hello.", "Tell me a story.", "👩‍👩‍👧‍👦 नमस्ते", "When is the next full moon?"]
IMAGE = {"type": "image", "source": {"type": "url", "url": "http://127.0.0.1/x.png"}}


def asked(model: str, text: str, **fields: Any) -> dict[str, Any]:
    """A request of one question, answered greedily."""
    chat = [{"role": "user", "content": text}]
    return {"model": model, "messages": chat, "max_tokens": 24, "extra_body": GREEDY} | fields


def streamed(client: Anthropic, body: dict[str, Any]) -> Message:
    """The message that a stream's events make."""
    with client.messages.stream(**body) as stream:
        return stream.get_final_message()


def text_of(message: Message) -> str:
    """Its texts, joined."""
    return "".join(block.text for block in message.content if block.type == "text")


def said(message: Message) -> Any:
    """A message but for its ids."""
    content = [block.model_dump() | {"id": ""} for block in message.content]
    return content, message.stop_reason, message.stop_sequence, message.usage.output_tokens


def read(message: Message) -> int:
    """Tokens of what was asked, out of a cache or not."""
    return message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)


def test_shape(anthropic: Anthropic, model: str) -> None:
    answer = anthropic.messages.create(**asked(model, "Say hello."))
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", model)
    assert answer.id and answer.stop_reason in ("end_turn", "max_tokens") and answer.stop_sequence is None
    (block,) = answer.content
    assert block.type == "text" and block.text
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0


@pytest.mark.parametrize("choice", [None, ONE_CALL, {"type": "tool", "name": "next_moon"}, {"type": "none"}])
@pytest.mark.parametrize("prompt", PROMPTS[:2])
def test_streamed_is_unstreamed(anthropic: Anthropic, model: str, prompt: str, choice: Any) -> None:
    body = asked(model, prompt, **({"tools": TOOLS, "tool_choice": choice} if choice else {}))
    assert said(streamed(anthropic, body)) == said(anthropic.messages.create(**body))


def test_the_order_of_events(anthropic: Anthropic, model: str) -> None:
    events = list(anthropic.messages.create(**asked(model, "Say hello."), stream=True))
    kinds = [kind for kind, _ in groupby(event.type for event in events if str(event.type) != "ping")]
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert kinds == ["message_start", *block, "message_delta", "message_stop"]
    first, *_, last, _ = events
    assert first.type == "message_start" and first.message.content == [] and first.message.stop_reason is None
    assert first.message.usage.input_tokens > 0
    assert last.type == "message_delta" and last.delta.stop_reason and last.usage.output_tokens > 0


def test_each_event_has_its_name(http: httpx.Client, anthropic: Anthropic, model: str) -> None:
    body = {"model": model, "max_tokens": 3, "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    answer = http.post("/messages", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    for event in filter(None, answer.text.split("\n\n")):
        name, data = event.split("\n")
        assert f'"type":"{name.removeprefix("event: ")}"' in data.removeprefix("data: ").replace('": "', '":"')


def test_a_stop_sequence_comes_back(anthropic: Anthropic, model: str) -> None:
    whole = text_of(anthropic.messages.create(**asked(model, "Tell me a story.")))
    word = whole.split()[2]
    body = asked(model, "Tell me a story.", stop_sequences=["never said", word])
    for answer in (anthropic.messages.create(**body), streamed(anthropic, body)):
        assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", word)
        assert text_of(answer) == whole.split(word)[0]


@pytest.mark.parametrize("choice", [ONE_CALL, {"type": "tool", "name": "next_moon"}], ids=["any", "tool"])
def test_a_tool_that_must_be_used(anthropic: Anthropic, model: str, choice: Any) -> None:
    body = asked(model, "When is the full moon?", tools=TOOLS, tool_choice=choice, max_tokens=150)
    answer = anthropic.messages.create(**body)
    assert answer.stop_reason == "tool_use"
    (call,) = answer.content
    assert call.type == "tool_use" and call.id
    check_call(call.name, json.dumps(call.input))


def test_what_the_tool_gave_goes_back(anthropic: Anthropic, model: str) -> None:
    call = {"type": "tool_use", "id": "abcdefghi", "name": "next_moon", "input": {"phase": "full"}}
    gave = {"type": "tool_result", "tool_use_id": "abcdefghi", "content": [{"type": "text", "text": "on the 9th"}]}
    chat: Any = [
        {"role": "user", "content": "When is the full moon?"},
        {"role": "assistant", "content": [{"type": "text", "text": "I look."}, call]},
        {"role": "user", "content": [gave | {"is_error": True}, {"type": "text", "text": "Try again."}]},
    ]
    counts = [
        anthropic.messages.count_tokens(model=model, messages=messages, tools=TOOLS).input_tokens
        for messages in (chat[:1], chat[:2], chat)
    ]
    assert counts == sorted(set(counts))
    answer = anthropic.messages.create(model=model, messages=chat, tools=TOOLS, max_tokens=24)
    assert read(answer) == counts[-1]


def test_what_it_said_it_reads_again(anthropic: Anthropic, model: str) -> None:
    first = anthropic.messages.create(**asked(model, "When is the full moon?", tools=TOOLS, tool_choice=ONE_CALL))
    thought: Any = {"type": "thinking", "thinking": "Hm.", "signature": "of some other model"}
    redacted: Any = {"type": "redacted_thinking", "data": "abc"}
    (call,) = first.content
    assert call.type == "tool_use"
    chat: Any = [
        {"role": "user", "content": "When is the full moon?"},
        {"role": "assistant", "content": [thought, redacted, *first.content]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id}]},
    ]
    assert anthropic.messages.create(model=model, messages=chat, tools=TOOLS, max_tokens=8).content


def test_an_answer_that_is_begun_is_continued(anthropic: Anthropic, model: str) -> None:
    chat: Any = [{"role": "user", "content": "Count to five."}, {"role": "assistant", "content": "One, two, three,"}]
    answer = anthropic.messages.create(model=model, messages=chat, max_tokens=3, extra_body=GREEDY)
    assert "four" in text_of(answer)


@pytest.mark.parametrize("system", ["Be brief.", [{"type": "text", "text": "Be brief."}]])
def test_count(anthropic: Anthropic, model: str, system: Any) -> None:
    body: Any = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "system": system}
    count = anthropic.messages.count_tokens(**body).input_tokens
    assert count > anthropic.messages.count_tokens(**body | {"system": "x"}).input_tokens
    assert read(anthropic.messages.create(**body, max_tokens=1)) == count


def test_what_agents_send_is_accepted(anthropic: Anthropic, model: str) -> None:
    """Fields, headers and marks of Claude Code's requests."""
    mark = {"cache_control": {"type": "ephemeral", "ttl": "1h", "scope": "global"}}
    body: Any = {
        "model": model,
        "max_tokens": 4,
        "betas": ["claude-code-20250219", "no-such-beta-2099-01-01"],
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: a=b"},
            {"type": "text", "text": "Hm.", **mark},
        ],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", **mark}]}],
        "tools": [{**tool, **mark, "eager_input_streaming": True} for tool in TOOLS],
        "metadata": {"user_id": "{}"},
        "thinking": {"type": "adaptive"},
        "service_tier": "auto",
        "output_config": {"effort": "xhigh"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "extra_body": {"temperature": 1},
    }
    answer = anthropic.beta.messages.create(**body)
    assert answer.stop_reason in ("end_turn", "max_tokens", "tool_use")


def test_a_format(anthropic: Anthropic, model: str) -> None:
    wanted: Any = {"format": {"type": "json_schema", "schema": SCHEMAS["next_moon"]}}
    answer = anthropic.messages.create(**asked(model, "When?", output_config=wanted, max_tokens=60))
    check_call("next_moon", text_of(answer))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "image"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search_20250305"),
        ({"tools": TOOLS, "tool_choice": {"type": "tool", "name": "no_such_tool"}}, "no_such_tool"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"extra_body": {"no_such_field": 1}}, "no_such_field"),
    ],
)
def test_a_refusal_names_what_is_refused(anthropic: Anthropic, model: str, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(sdk.BadRequestError) as refused:
        anthropic.messages.create(**asked(model, "Hi", **fields))
    error = refused.value.body
    assert isinstance(error, dict) and error["type"] == "error"
    assert error["error"]["type"] == "invalid_request_error" and named in error["error"]["message"]


def test_errors_are_anthropics(anthropic: Anthropic, target: Target, model: str) -> None:
    with pytest.raises(sdk.NotFoundError) as unknown:
        anthropic.messages.create(**asked("no-such-model", "Hi"))
    assert "not_found_error" in str(unknown.value)
    with pytest.raises(sdk.BadRequestError, match="prompt is too long"):
        anthropic.messages.create(**asked(model, "word " * 100_000))
    if target.api_key:
        with pytest.raises(sdk.AuthenticationError) as stranger:
            anthropic.with_options(api_key="wrong").messages.create(**asked(model, "Hi"))
        assert "authentication_error" in str(stranger.value)
    refused = httpx.post(f"{target.base_url}/messages", headers=target.headers, content=b"{")
    assert refused.json()["type"] == "error"
