"""Conversations with a gateway: each has a beginning of its own, and grows with each turn."""

import asyncio
import json
import random
import time
from dataclasses import dataclass
from typing import Any

from contract.spec import Deployment
from loadtests.load.prose import prose, sentence
from loadtests.sse import StreamedResponse, request

_AGAIN_S = 1.0


@dataclass(frozen=True)
class Manner:
    """How somebody chats."""

    beginning_tokens: int = 1000
    turns: int = 3
    answer_tokens: int = 16


@dataclass
class Turn:
    """One question and what came of it; times on time.monotonic()."""

    number: int
    sent: float
    first: float = 0.0  # content
    ended: float = 0.0
    text: str = ""
    whole: bool = False
    error: str = ""  # what the server said, or that it said nothing

    @property
    def ttft_s(self) -> float:
        """To the first content."""
        return self.first - self.sent


class Chat:
    """One conversation with the gateway of a deployment.

    Args:
        seed: of what is said; another one shares no beginning with it.
    """

    def __init__(self, spec: Deployment, seed: str, manner: Manner) -> None:
        self.turns: list[Turn] = []
        self.busy = False  # a turn is under way
        self._spec, self._manner, self._rng = spec, manner, random.Random(seed)
        self._messages = [{"role": "system", "content": prose(manner.beginning_tokens, seed)}]
        self._question = {"role": "user", "content": sentence(self._rng)}
        self._whole = 0

    @property
    def over(self) -> bool:
        """Whether it has had all its turns."""
        return self._whole == self._manner.turns

    async def turn(self) -> None:
        """The next one, or the last one again where that failed; each try is among ``turns``."""
        turn = Turn(self._whole, time.monotonic())
        self.turns.append(turn)
        self.busy = True
        await self._ask(turn, [*self._messages, self._question])
        self.busy = False
        if turn.error:
            await asyncio.sleep(_AGAIN_S)
        else:
            self._whole += 1
            self._messages += [self._question, {"role": "assistant", "content": turn.text}]
            self._question = {"role": "user", "content": sentence(self._rng)}

    async def _ask(self, turn: Turn, messages: list[dict[str, str]]) -> None:
        wanted = {"max_tokens": self._manner.answer_tokens, "ignore_eos": True, "temperature": 0, "stream": True}
        body = json.dumps({"model": self._spec.name, "messages": messages, **wanted}).encode()
        host, response = self._spec.gateway.host, StreamedResponse()
        try:
            reader, writer = await asyncio.open_connection(host, self._spec.ports.gateway)
            writer.write(request(host, "/v1/chat/completions", body))
            while not response.ended and (data := await reader.read(1 << 16)):
                for line in response.feed(data):
                    _hear(turn, line)
            writer.close()
        except OSError as error:
            turn.error = str(error)
        turn.ended = time.monotonic()
        if response.status != 200:
            turn.error = turn.error or f"status {response.status}"
        elif not turn.whole:
            turn.error = turn.error or "cut"


def _hear(turn: Turn, line: bytes) -> None:
    """One line of the stream."""
    if line == b"data: [DONE]":
        turn.whole = True
    if not line.startswith(b"data: {"):
        return
    event: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
    if "error" in event:
        turn.error = event["error"]["message"]
    for choice in event.get("choices", ()):
        if text := choice["delta"].get("content"):
            turn.first = turn.first or time.monotonic()
            turn.text += text
