"""A closed loop over kept connections: so many clients of one gateway, each asking again when it was answered.

``python -m loadtests.gateway_peers.client`` takes one JSON :class:`Order` on stdin, says ``measuring`` once it is warm,
``measured`` at the end, and answers with one JSON :class:`Seen`. An answer counts when it is the whole one; whatever
else comes is an error.
"""

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import httptools
import uvloop

from loadtests.gateway_peers.answers import WORD, WORDS
from loadtests.sse import request
from loadtests.timelines import quantiles

_MARK = WORD.strip().encode()
_EVENT = b"data: {"
_MOST_KINDS = 5  # of errors that are told apart
_PAUSE_S = 0.2  # before a connection is tried again


@dataclass(frozen=True)
class Order:
    """What to send, and how."""

    host: str
    port: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    clients: int
    warm_s: float
    seconds: float
    words: int = WORDS  # of a whole answer
    patience_s: float = 60.0  # of a client, for what is in flight when the time is over


@dataclass(frozen=True)
class Seen:
    """What came of it; errors are those of the warm-up too."""

    requests: int
    seconds: float
    latency_ms: dict[str, float]
    first_ms: dict[str, float]  # until the answer's first word
    events_per_answer: float  # of a stream
    errors: dict[str, int] = field(default_factory=dict)
    cpu_s: float = 0.0  # of this process


class _Load:
    """What all clients share."""

    def __init__(self, order: Order) -> None:
        self.order = order
        headers = {"Connection": "keep-alive", **order.headers}
        self.message = request(order.host, order.path, json.dumps(order.body).encode(), headers)
        self.counts = self.over = False  # whether answers count now; whether none does any more
        self.events = 0
        self.latencies: list[float] = []
        self.firsts: list[float] = []
        self.errors: Counter[str] = Counter()

    def wrong(self, what: str) -> None:
        """Count an error."""
        known = what in self.errors or len(self.errors) < _MOST_KINDS
        self.errors[what if known else "others"] += 1


class _Client(asyncio.Protocol):
    """One connection of one client."""

    _transport: asyncio.Transport

    def __init__(self, load: _Load) -> None:
        self._load = load
        self.closed = asyncio.get_running_loop().create_future()
        self.asked_at = 0.0  # 0: nothing is asked
        self._first = 0.0
        self._body = b""
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._ask()

    def _ask(self) -> None:
        self._first, self._body, self.asked_at = 0.0, b"", time.perf_counter()
        self._transport.write(self._load.message)

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"no HTTP came: {error}")

    def on_body(self, body: bytes) -> None:
        """Of httptools."""
        self._body += body
        if not self._first and _MARK in self._body:
            self._first = time.perf_counter()

    def on_message_complete(self) -> None:
        """Of httptools."""
        load, now = self._load, time.perf_counter()
        if fault := self._fault():
            load.wrong(fault)
        elif load.counts and not load.over:
            load.latencies.append(now - self.asked_at)
            load.firsts.append(self._first - self.asked_at)
            load.events += self._body.count(_EVENT)
        if self._parser.should_keep_alive() and not load.over:
            self._ask()
        else:
            self._end()

    def _fault(self) -> str:
        """What keeps this answer from being the whole one; '' when it is."""
        if (status := self._parser.get_status_code()) != 200:
            return f"HTTP {status}: {self._body[:200].decode(errors='replace')}"
        if (words := self._body.count(_MARK)) != self._load.order.words:
            return f"{words} of {self._load.order.words} words came"
        if self._load.order.body.get("stream") and b"data: [DONE]" not in self._body:
            return "the stream has no end"
        return ""

    def _end(self, fault: str = "") -> None:
        if fault:
            self._load.wrong(fault)
        self.asked_at = 0.0
        self._transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        """Of asyncio."""
        if self.asked_at:
            self._load.wrong("the connection broke before the answer was whole")
        self.closed.set_result(None)


async def run(order: Order) -> Seen:
    """The whole load."""
    load = _Load(order)
    loop = asyncio.get_running_loop()

    async def user() -> None:
        while not load.over:
            try:
                _, client = await loop.create_connection(lambda: _Client(load), order.host, order.port)
            except OSError as error:
                load.wrong(error.strerror or type(error).__name__)
                await asyncio.sleep(_PAUSE_S)
            else:
                await asyncio.shield(client.closed)

    users = [asyncio.create_task(user()) for _ in range(order.clients)]
    await asyncio.sleep(order.warm_s)
    print("measuring", flush=True)
    load.counts, begins, cpu_s = True, time.perf_counter(), time.process_time()
    await asyncio.sleep(order.seconds)
    load.over, ends, cpu_s = True, time.perf_counter(), time.process_time() - cpu_s
    print("measured", flush=True)
    _, late = await asyncio.wait(users, timeout=order.patience_s)
    for each in late:
        load.wrong(f"no answer came in {order.patience_s:g} s")
        each.cancel()
    answers = len(load.latencies)
    return Seen(
        answers,
        ends - begins,
        quantiles(load.latencies) if answers else {},
        quantiles(load.firsts) if answers else {},
        round(load.events / answers, 1) if answers else 0.0,
        dict(load.errors),
        cpu_s,
    )


def main() -> None:
    """One order, one answer."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is for who ordered this: nothing is said here
    print(json.dumps(asdict(uvloop.run(run(Order(**json.loads(sys.stdin.readline())))))))


if __name__ == "__main__":
    main()
