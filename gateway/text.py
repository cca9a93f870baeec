"""POST /v1/completions: every prompt n times, the answers as one object or as a stream of chunks."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

import msgspec

from clients.request import Delta
from gateway.answer import Answer
from gateway.ask import OUTPUTS, Ask, check_answers, counts_on_the_way, guides_of, put_guide, sampling_inputs, with_seed
from gateway.backend import Backend
from gateway.errors import ApiError
from gateway.generate import Numbered
from gateway.journey import Journey
from gateway.logprobs import merged, prompt_logprobs, text_logprobs
from gateway.schema.text import TextBody
from gateway.sse import DONE
from gateway.usage import StreamUsage, usage

_json = msgspec.json.Encoder().encode

_DEFAULT_TOKENS = 16  # OpenAI's


@dataclass(frozen=True)
class Text:
    """A text completion that is understood."""

    body: TextBody
    backend: Backend
    asks: list[Ask]
    id: str
    created: int

    async def whole(self, deltas: AsyncIterator[Numbered], journey: Journey) -> bytes:
        """The unstreamed response."""
        answers = [Answer() for _ in self.asks]
        texts = await self._echoes()
        logprobs: list[list[dict[str, Any]]] = [[] for _ in answers]
        async for number, delta in deltas:
            answers[number].take(delta)
            logprobs[number] += self._logprobs(delta, len(texts[number]))
            texts[number] += delta.text
        journey.finish_reason = answers[0].finish_reason
        choices = [
            {
                "index": number,
                "text": texts[number],
                "logprobs": merged(logprobs[number]),
                "finish_reason": answer.finish_reason,
            }
            for number, answer in enumerate(answers)
        ]
        return _json({**self._head(), "choices": choices, "usage": usage(answers, self.body.n or 1)})

    async def chunks(self, deltas: AsyncGenerator[Numbered, None], journey: Journey) -> AsyncGenerator[bytes, None]:
        """The streamed response: what one delta adds is one write."""
        answers = [Answer() for _ in self.asks]
        told = StreamUsage(self.body.stream_options, answers, self.body.n or 1)
        head = _json(self._head()).removesuffix(b"}")
        async with aclosing(deltas):
            echoes = await self._echoes()
            lengths = list(map(len, echoes))
            async for number, delta in deltas:
                answer = answers[number]
                answer.take(delta)
                text, echoes[number] = echoes[number] + delta.text, ""
                parts = self._logprobs(delta, lengths[number])
                if not (text or answer.finish_reason or parts):
                    continue
                yield b'data: %b,"choices":[{"index":%d,"text":%b,"logprobs":%b,"finish_reason":%b}]%b' % (
                    head,
                    number,
                    _json(text),
                    _json(merged(parts)),
                    b'"%b"' % answer.finish_reason.encode() if answer.finish_reason else b"null",
                    told.tail(),
                )
                lengths[number] += len(delta.text)
                journey.finish_reason = answer.finish_reason or journey.finish_reason
        yield told.last(head) + DONE

    def error(self, error: ApiError) -> bytes:
        """The event that ends a stream in the middle."""
        return b"data: %b\n\n" % error.body

    def _head(self) -> dict[str, Any]:
        return {"id": self.id, "object": "text_completion", "created": self.created, "model": self.body.model}

    async def _echoes(self) -> list[str]:
        """What stands before each answer: its prompt, where it is wanted back."""
        if not self.body.echo:
            return [""] * len(self.asks)
        said = await asyncio.gather(*map(self._said, self.body.prompts))
        return [text for text in said for _ in range(self.body.n or 1)]

    async def _said(self, prompt: str | list[int]) -> str:
        return prompt if isinstance(prompt, str) else (await self.backend.client.tokenize({"input_ids": prompt})).text

    def _logprobs(self, delta: Delta, length: int) -> list[dict[str, Any]]:
        """What a delta tells of log probabilities: of the prompt once, then of the answer.

        Args:
            length: characters before the delta, of the prompt where it tells of that.
        """
        ranked = bool(self.body.logprobs)
        parts = [prompt_logprobs(delta, length, alternatives=ranked)] if delta.prompt_tokens else []
        return parts + ([text_logprobs(delta, length)] if delta.tokens else [])


def understand(body: TextBody, backend: Backend) -> Text:
    """The asks of a body.

    Raises:
        Refused: it contradicts itself, or asks for too much.
    """
    check_answers(body, len(body.prompts), backend.admission.most_answers)
    inputs, names = sampling_inputs(body)
    inputs["stream"] = bool(body.stream)
    inputs.setdefault("max_tokens", max(_DEFAULT_TOKENS, body.min_tokens or 0))
    outputs = (*OUTPUTS, "output_ids") if counts_on_the_way(body) else OUTPUTS
    if body.logprobs is not None:
        inputs |= {"return_log_probs": True} | ({"logprobs": body.logprobs} if body.logprobs else {})
        if body.echo:
            inputs["prompt_logprobs"] = body.logprobs
    names |= {"prompt_logprobs": "echo", "return_log_probs": "logprobs", "text_input": "prompt", "input_ids": "prompt"}
    put_guide(inputs, names, guides_of(body))
    asks = []
    for prompt in body.prompts:
        for number in range(body.n or 1):
            tensors = with_seed(inputs, number)
            if isinstance(prompt, str):
                asks.append(Ask({**tensors, "text_input": prompt}, names, outputs, len(prompt.encode())))
            else:
                asks.append(Ask({**tensors, "input_ids": prompt}, names, outputs, 0, len(prompt)))
    return Text(body, backend, asks, f"cmpl-{token_hex(16)}", int(time.time()))
