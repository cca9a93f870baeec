"""POST /v1/responses: asked as a chat, answered in items and in a sequence of events of its own."""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from secrets import token_hex
from typing import Any

import msgspec

from gateway import chat
from gateway.answer import Answer
from gateway.ask import Ask
from gateway.backend import Backend
from gateway.dialect import renamed
from gateway.errors import ApiError, Refused
from gateway.generate import Numbered
from gateway.journey import Journey
from gateway.logprobs import chat_logprobs
from gateway.response_input import as_chat
from gateway.response_items import Output, StreamEvent
from gateway.response_tools import Tools, tools_of
from gateway.schema.responses import ENCRYPTED, ResponsesBody

_json = msgspec.json.Encoder().encode

# The chat's fields under this endpoint's names.
_NAMES = {"max_completion_tokens": "max_output_tokens", "response_format": "text.format", "guided_regex": "tools"}


@dataclass
class Response:
    """A response under way."""

    body: ResponsesBody
    asks: list[Ask]
    answer: Answer
    id: str
    created: int
    tools: Tools
    _output: Output = field(init=False)
    _events: int = 0

    def __post_init__(self) -> None:
        self._output = Output(self.tools, keeps_reasoning=ENCRYPTED in (self.body.include or ()))

    async def whole(self, deltas: AsyncIterator[Numbered], journey: Journey) -> bytes:
        """The unstreamed response."""
        async for _, delta in deltas:
            for event in self.answer.take(delta):
                self._output.push(event, chat_logprobs(delta)["content"])
        return _json(self._ended(journey)[-1]["response"])

    async def chunks(self, deltas: AsyncGenerator[Numbered, None], journey: Journey) -> AsyncGenerator[bytes, None]:
        """The streamed response: what one delta adds is one write."""
        begun = False
        async with aclosing(deltas):
            async for _, delta in deltas:
                told: list[StreamEvent] = []
                if not begun:
                    begun = True
                    told = [
                        {"type": f"response.{kind}", "response": self._object("in_progress")}
                        for kind in ("created", "in_progress")
                    ]
                logprobs = chat_logprobs(delta)["content"]
                for event in self.answer.take(delta):
                    told += self._output.push(event, logprobs)
                    logprobs = []
                if told:
                    yield self._written(told)
        yield self._written(self._ended(journey))

    def error(self, error: ApiError) -> bytes:
        """The events that end a stream in the middle."""
        told = self._output.close("incomplete")
        failed = self._object("failed") | {"error": {"code": "server_error", "message": error.message}}
        return self._written([*told, {"type": "response.failed", "response": failed}])

    def _ended(self, journey: Journey) -> list[StreamEvent]:
        """The end of the answer; the last event has the whole response."""
        journey.finish_reason = self.answer.finish_reason
        status = "incomplete" if self.answer.finish_reason == "length" else "completed"
        told = self._output.close(status)
        return [*told, {"type": f"response.{status}", "response": self._object(status)}]

    def _written(self, events: list[StreamEvent]) -> bytes:
        written = []
        for event in events:
            event["sequence_number"] = self._events
            self._events += 1
            written.append(b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _json(event)))
        return b"".join(written)

    def _object(self, status: str) -> dict[str, Any]:
        """The response as it stands."""
        body, answer = self.body, self.answer
        ended = status in ("completed", "incomplete")
        cached = answer.cached_tokens
        usage = {
            "input_tokens": answer.prompt_tokens,
            "input_tokens_details": None if cached is None else {"cached_tokens": cached, "cache_write_tokens": 0},
            "output_tokens": answer.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
            "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        }
        asked = body.model_dump(mode="json", by_alias=True, include={"tools", "tool_choice", "text", "reasoning"})
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "completed_at": int(time.time()) if ended else None,
            "status": status,
            "background": False,
            "error": None,
            "frequency_penalty": 0.0,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "max_tool_calls": None,
            "metadata": body.metadata or {},
            "model": body.model,
            "output": list(self._output.items),
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "presence_penalty": 0.0,
            "previous_response_id": None,
            "prompt_cache_key": body.prompt_cache_key,
            "reasoning": asked["reasoning"] or {"effort": None, "summary": None},
            "safety_identifier": body.safety_identifier,
            "service_tier": "default",
            "store": False,
            "temperature": 1.0 if body.temperature is None else body.temperature,
            "text": {"verbosity": "medium"} | _given(asked["text"]) | {"format": _format(asked["text"])},
            "tool_choice": asked["tool_choice"] or "auto",
            "tools": asked["tools"] or [],
            "top_logprobs": body.top_logprobs or 0,
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "truncation": body.truncation or "disabled",
            "usage": usage if ended else None,
            "user": body.user,
        }


def understand(body: ResponsesBody, backend: Backend) -> Response:
    """The ask of a body.

    Raises:
        Refused: it asks for what this deployment cannot do.
    """
    tools = tools_of(body.tools, body.tool_choice)
    try:
        understood = chat.understand(as_chat(body, tools, backend.template), backend)
    except Refused as refused:
        raise Refused(renamed(refused.error, _NAMES)) from None
    if tools.written:  # the guide is the call
        understood = replace(understood, reading=replace(understood.reading, calls=False, reasoning=False))
    (ask,) = understood.asks
    names = {"messages": "input"} | {tensor: _NAMES.get(name, name) for tensor, name in ask.names.items()}
    (answer,) = understood.answers()
    return Response(body, [replace(ask, names=names)], answer, f"resp_{token_hex(16)}", int(time.time()), tools)


def _given(fields: dict[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (fields or {}).items() if value is not None}


def _format(text: dict[str, Any] | None) -> dict[str, Any]:
    return _given((text or {}).get("format")) or {"type": "text"}
