"""POST /v1/messages: asked as a chat, answered in blocks and in a sequence of events of its own."""

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
from gateway.dialect import anthropic_error, renamed
from gateway.errors import ApiError, Refused
from gateway.generate import Numbered
from gateway.journey import Journey
from gateway.message_blocks import Blocks, Shown, StreamEvent
from gateway.message_input import as_chat
from gateway.schema.messages import CountBody, MessagesBody, Thinking

_json = msgspec.json.Encoder().encode

# The chat's fields under this endpoint's names.
_NAMES = {
    "stop": "stop_sequences",
    "response_format": "output_config.format",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "chat_template_kwargs": "thinking",
}


@dataclass
class Message:
    """A message under way."""

    body: MessagesBody
    asks: list[Ask]
    answer: Answer
    id: str
    _blocks: Blocks = field(init=False)

    def __post_init__(self) -> None:
        self._blocks = Blocks(_shown(self.body.thinking))

    async def whole(self, deltas: AsyncIterator[Numbered], journey: Journey) -> bytes:
        """The unstreamed response."""
        async for _, delta in deltas:
            for event in self.answer.take(delta):
                self._blocks.push(event)
        self._blocks.close()
        return _json(self._object() | self._end(journey))

    async def chunks(self, deltas: AsyncGenerator[Numbered, None], journey: Journey) -> AsyncGenerator[bytes, None]:
        """The streamed response: what one delta adds is one write."""
        begun = False
        async with aclosing(deltas):
            async for _, delta in deltas:
                events = self.answer.take(delta)
                told: list[StreamEvent] = [] if begun else [{"type": "message_start", "message": self._object()}]
                begun = True
                for event in events:
                    told += self._blocks.push(event)
                if told:
                    yield _written(told)
        end = self._end(journey)
        usage = end.pop("usage")
        told = [
            *self._blocks.close(),
            {"type": "message_delta", "delta": end, "usage": usage},
            {"type": "message_stop"},
        ]
        yield _written(told)

    def error(self, error: ApiError) -> bytes:
        """The event that ends a stream in the middle."""
        return b"event: error\ndata: %b\n\n" % anthropic_error(error)

    def _object(self) -> dict[str, Any]:
        """The message as it stands, without an end."""
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.body.model,
            "content": list(self._blocks.blocks),
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self._usage() | {"cache_creation": None, "server_tool_use": None, "service_tier": "standard"},
        }

    def _end(self, journey: Journey) -> dict[str, Any]:
        """Why it ended, and what it took."""
        answer = self.answer
        journey.finish_reason = answer.finish_reason
        usage = self._usage() if self.body.stream else self._object()["usage"]
        return {"stop_reason": self._stop_reason(), "stop_sequence": answer.matched_stop or None, "usage": usage}

    def _stop_reason(self) -> str:
        match self.answer.finish_reason:
            case "tool_calls":
                return "tool_use"
            case "length":
                whole = self.answer.completion_tokens >= self.body.max_tokens
                return "max_tokens" if whole else "model_context_window_exceeded"
            case _:
                return "stop_sequence" if self.answer.matched_stop else "end_turn"

    def _usage(self) -> dict[str, Any]:
        """Tokens; the input's are those that the prefix cache had not, and null is what the engine does not tell."""
        answer = self.answer
        counted: dict[str, Any] = {
            "input_tokens": answer.prompt_tokens - (answer.cached_tokens or 0),
            "output_tokens": answer.completion_tokens,
            "cache_creation_input_tokens": None,
            "cache_read_input_tokens": answer.cached_tokens,
        }
        reasoning = answer.reasoning_tokens
        return counted | ({"output_tokens_details": {"thinking_tokens": reasoning}} if reasoning else {})


def understand(body: MessagesBody, backend: Backend) -> Message:
    """The ask of a body.

    Raises:
        Refused: it asks for what this deployment cannot do.
    """
    understood = _as_chat(body, backend)
    (ask,) = understood.asks
    outputs = (*ask.outputs, "matched_stop") if body.stop_sequences else ask.outputs
    ask = replace(ask, names=_named(ask), outputs=outputs, context_may_end=True)
    (answer,) = understood.answers()
    return Message(body, [ask], answer, f"msg_{token_hex(16)}")


def to_count(body: CountBody, backend: Backend) -> Ask:
    """What is to be asked for the tokens of a conversation.

    Raises:
        Refused: no message could be made of it.
    """
    (ask,) = _as_chat(body, backend).asks
    return replace(ask, names=_named(ask))


def _as_chat(body: CountBody, backend: Backend) -> chat.Chat:
    try:
        return chat.understand(as_chat(body, backend.template), backend)
    except Refused as refused:
        raise Refused(renamed(refused.error, _NAMES)) from None


def _named(ask: Ask) -> dict[str, str]:
    return {tensor: _NAMES.get(name, name) for tensor, name in ask.names.items()}


def _shown(thinking: Thinking | None) -> Shown:
    if thinking and thinking.type == "disabled":
        return "not"
    return "signed" if thinking and thinking.display == "omitted" else "whole"


def _written(events: list[StreamEvent]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _json(event)) for event in events)
