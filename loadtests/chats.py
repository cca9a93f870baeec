"""Conversations with a gateway: each has its own beginning, pauses as its reader does, and grows with each turn."""

import asyncio
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from contract.spec import Deployment
from loadtests.load.prose import prose, sentence
from loadtests.sse import StreamedResponse, request


@dataclass(frozen=True)
class Manner:
    """How somebody chats."""

    beginning_tokens: int = 1000
    turns: int = 3
    answer_tokens: int = 16
    pause_s: tuple[float, float] = (1.0, 9.0)  # before each turn


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


@dataclass
class Chat:
    """One conversation with the gateway of a deployment.

    Args:
        seed: what is said, and when; another one shares no beginning with it.
    """

    spec: Deployment
    seed: str
    manner: Manner = Manner()
    turns: list[Turn] = field(default_factory=list)

    async def run(self, going: Callable[[], bool] = lambda: True) -> list[Turn]:
        """Every turn, or those that fit while it is to go on."""
        rng = random.Random(self.seed)
        messages = [{"role": "system", "content": prose(self.manner.beginning_tokens, self.seed)}]
        for number in range(self.manner.turns):
            await asyncio.sleep(rng.uniform(*self.manner.pause_s))
            if not going():
                break
            messages.append({"role": "user", "content": sentence(rng)})
            turn = Turn(number, time.monotonic())
            self.turns.append(turn)
            await self._ask(turn, messages)
            messages.append({"role": "assistant", "content": turn.text})
        return self.turns

    async def _ask(self, turn: Turn, messages: list[dict[str, str]]) -> None:
        wanted = {"max_tokens": self.manner.answer_tokens, "ignore_eos": True, "temperature": 0, "stream": True}
        body = json.dumps({"model": self.spec.name, "messages": messages, **wanted}).encode()
        host, response = self.spec.gateway.host, StreamedResponse()
        try:
            reader, writer = await asyncio.open_connection(host, self.spec.ports.gateway)
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
