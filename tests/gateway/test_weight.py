"""What a body costs the gateway is bounded by counting: the calls that it takes, and the faults that are told."""

import asyncio
import gzip
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from contract.spec import Deployment
from gateway import chat, messages, responses, text
from gateway.backend import Backend, connect
from gateway.body import parsed
from gateway.encoding import decoder_of
from gateway.errors import Refused, of_validation
from gateway.schema.chat import ChatBody, Message
from gateway.schema.messages import CountBody, MessagesBody
from gateway.schema.responses import ResponsesBody
from gateway.schema.text import TextBody
from gateway.turns import settled
from gateway.weight import MOST_VALUES
from tests.gateway.conftest import CHAT, COUNT, MESSAGES, RESPONSES, TEXT, user

Json = dict[str, Any]

UNDERSTAND: dict[str, tuple[Any, Callable[[Any, Backend], Any]]] = {
    CHAT: (ChatBody, chat.understand),
    TEXT: (TextBody, text.understand),
    RESPONSES: (ResponsesBody, responses.understand),
    MESSAGES: (MessagesBody, messages.understand),
    COUNT: (CountBody, messages.to_count),
}
BASE: dict[str, Json] = {
    CHAT: {"messages": user("x"), "max_tokens": 2},
    TEXT: {"prompt": "x", "max_tokens": 2},
    RESPONSES: {"input": "x", "max_output_tokens": 2},
    MESSAGES: {"messages": user("x"), "max_tokens": 2},
    COUNT: {"messages": user("x")},
}
TOOL = {"type": "function", "function": {"name": "f"}}
ITEM = {"role": "user", "content": "x"}
MOST_CALLS = 16 * MOST_VALUES
LARGE = 40_000

# What grows with a size, and the field that a refusal of too much of it names.
GROWING: list[tuple[str, str, Callable[[int], Json]]] = [
    (TEXT, "n", lambda size: {"prompt": ["a"] * min(size, 20_000), "n": 128}),
    (TEXT, "prompt", lambda size: {"prompt": ["a"] * size}),
    (TEXT, "prompt", lambda size: {"prompt": [[1]] * size}),
    (TEXT, "prompt", lambda size: {"prompt": [1.5] * size}),
    (TEXT, "prompt", lambda size: {"prompt": [{}] * size}),
    (TEXT, "bad_words", lambda size: {"bad_words": ["a"] * size}),
    (TEXT, "stop_token_ids", lambda size: {"stop_token_ids": [1] * size}),
    (TEXT, "logit_bias", lambda size: {"logit_bias": {str(at): 200 for at in range(size)}}),
    (TEXT, "fields", lambda size: {f"f{at}": at for at in range(size)}),
    (CHAT, "messages", lambda size: {"messages": [0] * size}),
    (CHAT, "messages", lambda size: {"messages": [ITEM] * size}),
    (CHAT, "messages", lambda size: {"messages": [{}] * size}),
    (CHAT, "messages", lambda size: {"messages": [{"role": "user", "content": [{"type": "text"}] * size}]}),
    (CHAT, "messages", lambda size: {"messages": [ITEM | {f"f{at}": 1 for at in range(size)}]}),
    (CHAT, "tools", lambda size: {"tools": [TOOL] * size}),
    (CHAT, "tools", lambda size: {"tools": [TOOL] * size, "tool_choice": "required"}),
    (CHAT, "stop", lambda size: {"stop": ["x"] * size}),
    (CHAT, "guided_choice", lambda size: {"guided_choice": [""] * size}),
    (CHAT, "metadata", lambda size: {"metadata": {"a": [{}] * size}}),
    (RESPONSES, "input", lambda size: {"input": [ITEM] * size}),
    (RESPONSES, "input", lambda size: {"input": [{"type": "reasoning", "summary": []}] * size}),
    (RESPONSES, "tools", lambda size: {"tools": [{"type": "namespace", "name": "n", "tools": [0] * size}]}),
    (RESPONSES, "include", lambda size: {"include": ["x"] * size}),
    (MESSAGES, "messages", lambda size: {"messages": [ITEM] * size}),
    (MESSAGES, "messages", lambda size: {"messages": [{"role": "user", "content": [{"type": "x"}] * size}]}),
    (MESSAGES, "system", lambda size: {"system": [{"type": "text", "text": "x"}] * size}),
    (MESSAGES, "stop_sequences", lambda size: {"stop_sequences": [""] * size}),
    (COUNT, "tools", lambda size: {"tools": [{}] * size}),
]


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A deployment whose server nobody asks."""
    spec = Deployment.model_validate({"name": "synthetic", "engine": {"runtime": "synthetic"}})
    with asyncio.Runner() as loop:

        async def connected() -> Backend:
            return connect(spec, Path(tmp_path_factory.mktemp("weight")))

        found = loop.run(connected())
        yield found
        loop.run(found.client.close())


def calls(work: Callable[[], Any]) -> int:
    """Run it; how many functions it called."""
    count = 0

    def see(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(see)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def understood(path: str, body: bytes, backend: Backend) -> str:
    """As the gateway does it; what the client is told, '' where all is well."""
    schema, understand = UNDERSTAND[path]
    try:
        understand(parsed(body, schema), backend)
    except Refused as refused:
        return refused.error.message
    except ValidationError as error:
        assert error.error_count() < 1000
        return of_validation(error).message
    return ""


def sent(path: str, more: Json) -> bytes:
    return json.dumps({"model": "synthetic"} | BASE[path] | more).encode()


@settings(max_examples=20, deadline=None, database=None, derandomize=True)
@given(grows=st.sampled_from(GROWING), size=st.integers(1, LARGE))
def test_no_size_costs_more(backend: Backend, grows: tuple[str, str, Callable[[int], Json]], size: int) -> None:
    path, _, grown = grows
    body = sent(path, grown(size))
    assert calls(lambda: understood(path, body, backend)) <= MOST_CALLS


def test_what_is_too_much_is_named(backend: Backend) -> None:
    for path, field, grown in GROWING:
        assert field in understood(path, sent(path, grown(LARGE)), backend)


@pytest.mark.parametrize("path", UNDERSTAND)
def test_it_is_told_over_the_gateway(http: httpx.Client, backend: Backend, path: str) -> None:
    grown = next(grown for of, _, grown in GROWING if of == path)
    body = sent(path, grown(LARGE))
    answer = http.post(path, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == understood(path, body, backend)


def test_frames_behind_frames() -> None:
    frames = gzip.compress(b"") * 100_000
    unpack = decoder_of("gzip")

    def refused() -> None:
        with pytest.raises(Refused):
            unpack(frames, 2**22)

    assert calls(refused) < 1000
    assert unpack(gzip.compress(b"a") * 9, 9) == b"a" * 9


def test_a_run_of_one_speaker_is_joined_once() -> None:
    run = [Message(role="user", content="x")] * 1000
    alone = calls(lambda: settled(run[:1], ""))
    assert calls(lambda: settled(run, "")) < 10 * len(run) + alone
    assert settled(run, "") == [Message(role="user", content="\n".join("x" * 1000))]
