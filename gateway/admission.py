"""Who may start now, who waits, and who is told to come back: decided before the server is asked for anything.

A request weighs what it may come to hold: its answers in flight, and its tokens (prompt and max_tokens).
What does not fit waits in one bounded queue, in order; a request that would wait too long, or longer than
its own deadline, is refused at once, with the time that the measured drain rate says it should stay away.
Pure asyncio: one event loop, no threads.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from contract.errors import DeadlineExceeded, InvalidRequest, Overloaded, Unavailable

_RELEASES = 64  # the drain rate is that of so many requests
LONGEST_RETRY_S = 60.0


@dataclass(frozen=True)
class Load:
    """What is in flight, or may be; 0 in a limit is no limit."""

    requests: int = 0
    tokens: int = 0

    def __add__(self, other: "Load") -> "Load":
        return Load(self.requests + other.requests, self.tokens + other.tokens)

    def __sub__(self, other: "Load") -> "Load":
        return Load(self.requests - other.requests, self.tokens - other.tokens)

    def fits(self, limit: "Load") -> bool:
        """Whether this is within a limit."""
        return self.requests <= (limit.requests or self.requests) and self.tokens <= (limit.tokens or self.tokens)


@dataclass(frozen=True, eq=False)
class Ticket:
    """What was admitted; to be given back once."""

    key: str
    load: Load


@dataclass(eq=False)
class _Waiter:
    ticket: Ticket
    granted: asyncio.Future[None]


@dataclass
class Admission:
    """The requests in flight of one deployment, and those that wait.

    Args:
        limit: what may be in flight; per_key: what may be of one API key.
        queue_size: how many requests may wait, and ``patience_s`` how long.
    """

    limit: Load
    per_key: Load
    queue_size: int
    patience_s: float
    clock: Callable[[], float] = time.monotonic
    in_flight: Load = Load()
    closed: bool = False
    _of_key: dict[str, Load] = field(default_factory=dict)
    _queue: deque[_Waiter] = field(default_factory=deque)
    _released: deque[tuple[float, Load]] = field(default_factory=lambda: deque(maxlen=_RELEASES))

    @property
    def queued(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    async def admit(self, key: str, load: Load, deadline: float | None = None) -> Ticket:
        """Wait for room; the ticket must go back through :meth:`release`.

        Args:
            deadline: on this admission's clock; after it the answer is of no use.

        Raises:
            InvalidRequest: more than there can ever be room for.
            Overloaded: no room, and none soon enough.
            DeadlineExceeded: the deadline passed in the queue.
            Unavailable: the gateway is stopping.
        """
        if self.closed:
            raise _stopping()
        ticket = Ticket(key, self._possible(load))
        if not self._queue and self._fits(ticket):
            return self._take(ticket)
        patience_s = self._patience(ticket, deadline)
        waiter = _Waiter(ticket, asyncio.get_running_loop().create_future())
        self._queue.append(waiter)
        self._grant()  # what stands before it may wait for its own key's sake only
        try:
            async with asyncio.timeout(patience_s):
                await waiter.granted
        except TimeoutError:
            self._leave(waiter)
            if deadline is not None and self.clock() >= deadline:
                raise DeadlineExceeded("the deadline passed while the request waited for room") from None
            raise self._overloaded(f"no room within {self.patience_s:g} s") from None
        except BaseException:
            self._leave(waiter)
            raise
        return ticket

    def release(self, ticket: Ticket) -> None:
        """Give back what a request held."""
        self.in_flight -= ticket.load
        left = self._of_key[ticket.key] - ticket.load
        if left.requests:
            self._of_key[ticket.key] = left
        else:
            del self._of_key[ticket.key]
        self._released.append((self.clock(), ticket.load))
        self._grant()

    def close(self) -> None:
        """Refuse what waits and what is new."""
        self.closed = True
        for waiter in self._queue:
            if not waiter.granted.done():
                waiter.granted.set_exception(_stopping())

    def retry_after_s(self, load: Load = Load(1, 0)) -> float:
        """When there should be room for this much, at the measured drain rate."""
        return min(LONGEST_RETRY_S, max(1.0, self._wait_s(load) or 1.0))

    def _fits(self, ticket: Ticket) -> bool:
        return (self.in_flight + ticket.load).fits(self.limit) and self._key_has_room(ticket)

    def _key_has_room(self, ticket: Ticket) -> bool:
        return (self._of_key.get(ticket.key, Load()) + ticket.load).fits(self.per_key)

    def _take(self, ticket: Ticket) -> Ticket:
        self.in_flight += ticket.load
        self._of_key[ticket.key] = self._of_key.get(ticket.key, Load()) + ticket.load
        return ticket

    def _grant(self) -> None:
        """Start what now fits, in order; one that waits for its own key lets others pass."""
        for waiter in list(self._queue):
            if waiter.granted.done():
                continue
            if not self._key_has_room(waiter.ticket):
                continue
            if not self._fits(waiter.ticket):
                return
            self._queue.remove(waiter)
            self._take(waiter.ticket)
            waiter.granted.set_result(None)

    def _leave(self, waiter: _Waiter) -> None:
        if waiter in self._queue:
            self._queue.remove(waiter)
        elif waiter.granted.done() and not waiter.granted.cancelled() and not waiter.granted.exception():
            self.release(waiter.ticket)
        self._grant()

    def _possible(self, load: Load) -> Load:
        """The load, unless there is never room for it; tokens are an estimate, so they are capped instead."""
        for limit in (self.limit, self.per_key):
            if limit.requests and load.requests > limit.requests:
                raise InvalidRequest(
                    f"asks for {load.requests} answers at once; the limit is {limit.requests}", field="n"
                )
            if limit.tokens:
                load = Load(load.requests, min(load.tokens, limit.tokens))
        return load

    def _patience(self, ticket: Ticket, deadline: float | None) -> float:
        """How long this request may wait, in seconds.

        Raises:
            Overloaded: it would be in vain.
        """
        if len(self._queue) >= self.queue_size:
            raise self._overloaded(f"{len(self._queue)} requests wait already", ticket.load)
        left_s = self.patience_s if deadline is None else min(self.patience_s, deadline - self.clock())
        expected_s = self._wait_s(ticket.load)
        if expected_s is not None and expected_s > left_s:
            raise self._overloaded(f"room is expected in {expected_s:.1f} s only", ticket.load)
        return max(0.0, left_s)

    def _wait_s(self, load: Load) -> float | None:
        """How long until this much more is drained, at the rate of the last releases; None: not known yet."""
        if len(self._released) < 2:
            return None
        elapsed_s = max(1e-3, self.clock() - self._released[0][0])
        drained = sum((each for _, each in self._released), Load())
        ahead = sum((waiter.ticket.load for waiter in self._queue), load)
        excess = self.in_flight + ahead
        waits = [
            (wanted - room) * elapsed_s / done
            for wanted, room, done in (
                (excess.requests, self.limit.requests, drained.requests),
                (excess.tokens, self.limit.tokens, drained.tokens),
            )
            if room and done
        ]
        return max([0.0, *waits])

    def _overloaded(self, why: str, load: Load = Load(1, 0)) -> Overloaded:
        return Overloaded(
            f"{self.in_flight.requests} requests are in flight and {why}",
            fix=f"Try again in {self.retry_after_s(load):.0f} s",
        )


@dataclass
class PromptSizes:
    """How many tokens a prompt of so many bytes has, learnt from the prompts that were counted."""

    _bytes: float = 300.0  # begins at a token for three bytes, as heavy as one short prompt
    _tokens: float = 100.0

    def estimate(self, size: int) -> int:
        """Tokens of a prompt of ``size`` UTF-8 bytes."""
        return round(size * self._tokens / self._bytes)

    def learn(self, size: int, tokens: int) -> None:
        """A prompt was counted; what was learnt long ago counts for less."""
        self._bytes = 0.98 * self._bytes + size
        self._tokens = 0.98 * self._tokens + tokens


def _stopping() -> Unavailable:
    return Unavailable("the gateway is stopping", fix="Try again once it is back")
