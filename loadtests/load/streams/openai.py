"""OpenAI's server-sent events: chat completions, or completions of a plain prompt."""

from contextlib import closing
from typing import Any

import msgspec

from loadtests.load.fault import StreamFault, outcome_of_status
from loadtests.load.rows import Outcome, Row
from loadtests.load.streams.http import lines
from loadtests.load.streams.target import Clock, Target
from loadtests.load.workload import Ask


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_event = msgspec.json.Decoder(_Event).decode
_encode = msgspec.json.encode


class OpenAI:
    """The transport; ``chat`` chooses the endpoint."""

    def __init__(self, target: Target, *, chat: bool) -> None:
        self._target = target
        self._chat = chat
        self._path = "/v1/chat/completions" if chat else "/v1/completions"
        if target.path.endswith("/v1"):
            self._path = self._path.removeprefix("/v1")

    def __call__(self, ask: Ask, row: Row, clock: Clock) -> str:
        """See :class:`loadtests.load.streams.target.Stream`."""
        text: list[str] = []
        done = False
        with closing(lines(self._target, self._path, _encode(self.body(ask)), row, clock)) as events:
            for now, line in events:
                if not line.startswith(b"data:"):
                    continue
                payload = line[5:].strip()
                if payload == b"[DONE]":
                    row.ended = now
                    done = True
                    break
                self._take(payload, now, row, text)
                if ask.cancel_after is not None and len(row.chunks) >= ask.cancel_after:
                    row.outcome, row.ended = Outcome.CANCELLED, now
                    return "".join(text)
        if not done:
            raise StreamFault(Outcome.TRUNCATED, "the stream ended without [DONE]")
        return "".join(text)

    def body(self, ask: Ask) -> dict[str, Any]:
        """The request's JSON."""
        asked: dict[str, Any] = {"messages": ask.messages} if self._chat else {"prompt": ask.text}
        body = {
            "model": self._target.model,
            **asked,
            "max_tokens": ask.max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if ask.schema:
            named = {"name": "answer", "schema": ask.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        if ask.tools:
            body |= {"tools": ask.tools, "tool_choice": "required"}
        return body | ask.extra

    def _take(self, payload: bytes, now: float, row: Row, text: list[str]) -> None:
        try:
            event = _event(payload)
        except msgspec.DecodeError as error:
            raise StreamFault(Outcome.MID_STREAM, f"an event that is no chunk: {error}: {payload[:200]!r}") from None
        if event.error is not None:
            said = _encode(event.error).decode()
            status = event.error.get("code") if isinstance(event.error, dict) else None
            if row.chunks or not isinstance(status, int):
                raise StreamFault(Outcome.MID_STREAM, said)
            raise StreamFault(outcome_of_status(status), said)
        gained = False
        for choice in event.choices:
            gained |= _gained(choice, text)
            row.finish_reason = choice.finish_reason or row.finish_reason
        if gained:
            row.chunks.append((now, 0))
        if event.usage is not None:
            row.prompt_tokens, row.output_tokens = event.usage.prompt_tokens, event.usage.completion_tokens


def _gained(choice: _Choice, text: list[str]) -> bool:
    """Whether a choice brings content, reasoning or a piece of a call; its content is added to the text."""
    if choice.text:
        text.append(choice.text)
        return True
    delta = choice.delta
    if delta is None:
        return False
    if delta.content:
        text.append(delta.content)
        return True
    calls = (call.function for call in delta.tool_calls or () if call.function is not None)
    return bool(delta.reasoning_content or delta.reasoning) or any(call.name or call.arguments for call in calls)
