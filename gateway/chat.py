"""POST /v1/chat/completions: the body as asks, the answers as one object or as a stream of chunks."""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

import msgspec

from gateway.answer import Answer
from gateway.ask import OUTPUTS, Ask, check_answers, counts_on_the_way, guides_of, put_guide, sampling_inputs, with_seed
from gateway.backend import Backend
from gateway.errors import ApiError
from gateway.generate import Numbered
from gateway.journey import Journey
from gateway.logprobs import chat_logprobs, merged
from gateway.parsers import Content, Event, Reasoning, ToolCallStart
from gateway.schema.chat import ChatBody, Message
from gateway.sse import DONE
from gateway.tools import Reading, reading_of, template_variables
from gateway.usage import StreamUsage, usage

_json = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Chat:
    """A chat that is understood: what to ask, and how to tell what comes."""

    body: ChatBody
    asks: list[Ask]
    reading: Reading
    id: str
    created: int

    async def whole(self, deltas: AsyncIterator[Numbered], journey: Journey) -> bytes:
        """The unstreamed response."""
        answers = self.answers()
        parts: list[list[Event]] = [[] for _ in answers]
        logprobs: list[list[dict[str, Any]]] = [[] for _ in answers]
        async for number, delta in deltas:
            parts[number] += answers[number].take(delta)
            if delta.tokens:
                logprobs[number].append(chat_logprobs(delta))
        journey.finish_reason = answers[0].finish_reason
        choices = [
            {
                "index": number,
                "message": _message(parts[number]),
                "logprobs": merged(logprobs[number]),
                "finish_reason": answer.finish_reason,
            }
            for number, answer in enumerate(answers)
        ]
        return _json(
            {
                "id": self.id,
                "object": "chat.completion",
                "created": self.created,
                "model": self.body.model,
                "choices": choices,
                "usage": usage(answers),
            }
        )

    async def chunks(self, deltas: AsyncGenerator[Numbered, None], journey: Journey) -> AsyncGenerator[bytes, None]:
        """The streamed response: what one delta adds is one write."""
        answers = self.answers()
        told = StreamUsage(self.body.stream_options, answers)
        head = _json(
            {"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.body.model}
        ).removesuffix(b"}")
        opened = [False] * len(answers)

        def chunk(number: int, gained: bytes, logprobs: bytes = b"null", finish: bytes = b"null") -> bytes:
            return b'data: %b,"choices":[{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}]%b' % (
                head,
                number,
                gained,
                logprobs,
                finish,
                told.tail(),
            )

        async with aclosing(deltas):
            async for number, delta in deltas:
                answer = answers[number]
                events = answer.take(delta)
                written = []
                if not opened[number]:
                    opened[number] = True
                    written.append(chunk(number, b'{"role":"assistant","content":"","refusal":null}'))
                logprobs = _json(chat_logprobs(delta)) if delta.tokens else b"null"
                for event in events or ((Content(""),) if delta.tokens else ()):
                    written.append(chunk(number, _gained(event), logprobs))
                    logprobs = b"null"
                if answer.finish_reason:
                    journey.finish_reason = answer.finish_reason
                    written.append(chunk(number, b"{}", finish=b'"%b"' % answer.finish_reason.encode()))
                if written:
                    yield b"".join(written)
        yield told.last(head) + DONE

    def error(self, error: ApiError) -> bytes:
        """The event that ends a stream in the middle."""
        return b"data: %b\n\n" % error.body

    def answers(self) -> list[Answer]:
        """A fresh answer for each ask."""
        return [Answer(self.reading.parser(), one_call=self.reading.one_call) for _ in self.asks]


def understand(body: ChatBody, backend: Backend) -> Chat:
    """The asks of a body.

    Raises:
        Refused: it asks for what this deployment cannot do.
    """
    check_answers(body, 1, backend.admission.most_answers)
    inputs, names = sampling_inputs(body)
    if body.max_completion_tokens is not None:
        inputs["max_tokens"], names["max_tokens"] = body.max_completion_tokens, "max_completion_tokens"
    if body.logprobs:
        inputs |= {"return_log_probs": True} | ({"logprobs": body.top_logprobs} if body.top_logprobs else {})
    names |= {"return_log_probs": "logprobs", "logprobs": "top_logprobs"}
    reading = reading_of(body, backend)
    put_guide(inputs, names, [*guides_of(body), *reading.guides])
    messages = json.dumps(_messages(body), ensure_ascii=False)
    inputs |= {"messages": messages, "stream": bool(body.stream)}
    size = len(messages.encode())
    if reading.tools:
        inputs["tools"] = json.dumps(reading.tools, ensure_ascii=False)
        size += len(inputs["tools"])
    if variables := template_variables(body):
        inputs["chat_template_kwargs"] = json.dumps(variables, ensure_ascii=False)
    if reading.reasoning and "stop_words" in inputs:
        inputs["reasoning_tags"] = reading.tags
    if reading.special_tokens:
        inputs["skip_special_tokens"] = False
    outputs = (*OUTPUTS, "output_ids") if reading.reasoning or counts_on_the_way(body) else OUTPUTS
    asks = [Ask(with_seed(inputs, number), names, outputs, size) for number in range(body.n or 1)]
    return Chat(body, asks, reading, f"chatcmpl-{token_hex(16)}", int(time.time()))


def _messages(body: ChatBody) -> list[dict[str, Any]]:
    """The conversation as chat templates expect it."""
    return [_turn(message) for message in body.messages]


_KEPT = {"role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content"}


def _turn(message: Message) -> dict[str, Any]:
    turn = message.model_dump(mode="json", exclude_none=True, include=_KEPT)
    if not message.tool_calls:
        turn.pop("tool_calls", None)
        turn["content"] = turn.get("content") or message.refusal or ""
    for call in turn.get("tool_calls", ()):
        call.pop("provider_specific_fields", None)
        call["function"].pop("parsed_arguments", None)
    if reasoning := message.reasoning_content or message.reasoning:
        turn["reasoning_content"] = reasoning
    return turn


def _message(events: list[Event]) -> dict[str, Any]:
    """The message that these events make."""
    text: list[str] = []
    reasoning: list[str] = []
    calls: list[dict[str, Any]] = []
    arguments: list[list[str]] = []
    for event in events:
        match event:
            case Content():
                text.append(event.text)
            case Reasoning():
                reasoning.append(event.text)
            case ToolCallStart():
                calls.append({"id": event.id, "type": "function", "function": {"name": event.name}})
                arguments.append([])
            case _:
                arguments[event.index].append(event.text)
    for call, pieces in zip(calls, arguments, strict=True):
        call["function"]["arguments"] = "".join(pieces)
    message: dict[str, Any] = {"role": "assistant", "content": "".join(text) or None if calls else "".join(text)}
    message |= {"refusal": None}
    if reasoning:
        message["reasoning_content"] = "".join(reasoning)
    if calls:
        message["tool_calls"] = calls
    return message


def _gained(event: Event) -> bytes:
    """The ``delta`` of a chunk."""
    match event:
        case Content():
            return b'{"content":%b}' % _json(event.text)
        case Reasoning():
            return b'{"reasoning_content":%b}' % _json(event.text)
        case ToolCallStart():
            call = {
                "index": event.index,
                "id": event.id,
                "type": "function",
                "function": {"name": event.name, "arguments": ""},
            }
            return b'{"tool_calls":[%b]}' % _json(call)
        case _:
            return b'{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}' % (event.index, _json(event.text))
