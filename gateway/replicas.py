"""Several servers of one deployment as one client: each request goes to a live one, by how it begins (prefix.py).

A server is live while it says so every second; who finds its door shut shuns it for as long. What it had in flight when
it went another one goes on with (resume.py).
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from typing import Protocol, TypeVar

from clients.grpc import AsyncClient
from clients.request import Delta, Inputs, Tokens
from clients.wire import OUTPUTS, Unreachable
from contract.errors import Cancelled, Unavailable
from gateway.prefix import Affinity, Memory, beginning, choose, fewest
from gateway.resume import resumed, seconds_left

log = logging.getLogger("gateway")

T = TypeVar("T")

_EVERY_S = 1.0
_PATIENCE_S = 2.0  # of one question; a server that is gone with its machine does not refuse it, it says nothing
_MISSES = 2  # in a row


class Client(Protocol):
    """What the gateway asks of a deployment's server, or servers."""

    def deltas(
        self, inputs: Inputs, *, timeout_s: float | None = None, request_id: str = "", outputs: Iterable[str] = OUTPUTS
    ) -> AsyncGenerator[Delta, None]:
        """The deltas of one answer."""

    async def count(self, inputs: Inputs, *, timeout_s: float | None = None) -> int:
        """How many tokens a prompt has."""

    async def tokenize(
        self, inputs: Inputs, *, add_special_tokens: bool = True, timeout_s: float | None = None
    ) -> Tokens:
        """The tokens of a prompt."""

    async def close(self) -> None:
        """Close the connections; requests in flight are cancelled."""


class Replica:
    """One server."""

    def __init__(self, address: str, model: str, connections: int) -> None:
        self.address = address
        self.in_flight = 0
        self.live = False
        self.memory = Memory()
        self._misses = 0
        self._shunned_until = 0.0  # on time.monotonic()
        self._model, self._connections = model, connections
        self.client = self._connect()

    def _connect(self) -> AsyncClient:
        return AsyncClient(self.address, self._model, self._connections, direct=True)

    async def look(self) -> bool:
        """Ask whether it is ready; whether it should count as live."""
        ready = await self.client.ready(_PATIENCE_S)
        self._misses = 0 if ready else self._misses + 1
        return ready or (self.live and self._misses < _MISSES)

    @property
    def shunned(self) -> bool:
        """Whether a request found its door shut a moment ago."""
        return time.monotonic() < self._shunned_until

    def shun(self) -> None:
        """A request did."""
        self._shunned_until = time.monotonic() + _EVERY_S

    async def turn(self, live: bool) -> None:
        """It is live from now on, or is not; what it had in flight is cut then."""
        if live == self.live:
            return
        self.live = live
        if not live:
            self.memory.forget()
            gone, self.client = self.client, self._connect()
            await gone.close()


class Replicas:
    """A client of all of them; make it in the event loop that will use it.

    Args:
        by_prefix: chooses by how a request begins; else the fewest in flight.
        watches: looks at them itself; else it is told, through :meth:`Replica.turn`.
    """

    def __init__(
        self, addresses: Sequence[str], model: str, connections: int, *, by_prefix: bool = True, watches: bool = True
    ) -> None:
        self.members = [Replica(address, model, connections) for address in addresses]
        self._by_prefix = by_prefix
        self.changed: Callable[[Replica], None] = lambda replica: None  # told of each that came or went
        self._watch = asyncio.create_task(self._look()) if watches else None

    async def close(self) -> None:
        """Close every connection; requests in flight are cancelled."""
        if self._watch:
            self._watch.cancel()
        await asyncio.gather(*(replica.client.close() for replica in self.members))

    async def count(self, inputs: Inputs, *, timeout_s: float | None = None) -> int:
        """As :meth:`clients.grpc.AsyncClient.count`, of whichever server is live and answers.

        Raises:
            Unavailable: none is, or does.
        """
        return await self._any(lambda client: client.count(inputs, timeout_s=timeout_s))

    async def tokenize(
        self, inputs: Inputs, *, add_special_tokens: bool = True, timeout_s: float | None = None
    ) -> Tokens:
        """As :meth:`clients.grpc.AsyncClient.tokenize`, likewise."""
        return await self._any(
            lambda client: client.tokenize(inputs, add_special_tokens=add_special_tokens, timeout_s=timeout_s)
        )

    async def _any(self, ask: Callable[[AsyncClient], Awaitable[T]]) -> T:
        """What the first server that is live and answers says."""
        tried: set[str] = set()
        while True:
            replica = fewest(self._able(tried))
            tried.add(replica.address)
            with suppress(Unavailable):
                return await ask(replica.client)

    async def deltas(
        self,
        inputs: Inputs,
        *,
        timeout_s: float | None = None,
        request_id: str = "",
        outputs: Iterable[str] = OUTPUTS,
        affinity: Affinity | None = None,
    ) -> AsyncGenerator[Delta, None]:
        """As :meth:`clients.grpc.AsyncClient.deltas`, of whichever server is chosen; each is tried once.

        Raises:
            Unavailable: no server is live, or as :func:`gateway.resume.resumed`.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        affinity = affinity or Affinity()
        begins = beginning(inputs, affinity.session)
        tried: set[str] = set()

        def begin(rest: Inputs, wanted: Iterable[str]) -> AsyncGenerator[Delta, None]:
            able = self._able(tried)
            replica = choose(able, begins) if self._by_prefix else fewest(able)
            tried.add(replica.address)
            left_s = seconds_left(deadline)
            affinity.server, affinity.known = replica.address, replica.memory.share(begins)
            replica.memory.note(begins)
            return _of(replica, rest, timeout_s=left_s, request_id=request_id, outputs=wanted)

        async with aclosing(resumed(begin, inputs, outputs)) as deltas:
            async for delta in deltas:
                yield delta

    def _able(self, tried: set[str]) -> list[Replica]:
        """The servers that can be asked."""
        live = [replica for replica in self.members if replica.live and replica.address not in tried]
        if not live:
            live_now = sum(replica.live for replica in self.members)
            raise Unavailable(
                f"none of the {len(self.members)} servers could take this request ({live_now} are up)",
                fix="Try again later",
            )
        return [replica for replica in live if not replica.shunned] or live

    async def _look(self) -> None:
        while True:
            await asyncio.gather(*map(self._look_at, self.members), asyncio.sleep(_EVERY_S))

    async def _look_at(self, replica: Replica) -> None:
        live = await replica.look()
        if live != replica.live:
            log.log(logging.INFO if live else logging.WARNING, "%s is %s", replica.address, "up" if live else "down")
            await replica.turn(live)
            self.changed(replica)


async def _of(
    replica: Replica, inputs: Inputs, *, timeout_s: float | None, request_id: str, outputs: Iterable[str]
) -> AsyncGenerator[Delta, None]:
    """One server's deltas; that its connection was cut is no cancellation of ours."""
    client = replica.client
    deltas = client.deltas(inputs, timeout_s=timeout_s, request_id=request_id, outputs=outputs)
    replica.in_flight += 1
    try:
        async with aclosing(deltas):
            async for delta in deltas:
                yield delta
    except Unreachable:
        replica.shun()
        raise
    except (asyncio.CancelledError, Cancelled):
        task = asyncio.current_task()
        if replica.client is client or (task and task.cancelling()):
            raise
        raise Unavailable("the server is gone") from None
    finally:
        replica.in_flight -= 1
