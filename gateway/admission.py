"""Who may start now, who waits, and who is told to come back: decided before the server is asked for anything.

A request weighs what it may come to hold: its answers in flight, and its tokens (prompt and max_tokens).
What does not fit waits in one bounded queue: the keys take turns, the requests of a key their order, and when the queue
is full the key with the most in it gives way. A request that would wait too long, or that cannot end before its own
deadline, is refused at once, with the time that the measured drain rate says it should stay away.
Pure asyncio: one event loop, no threads.
"""

import asyncio
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import quantiles

from contract.errors import DeadlineExceeded, InvalidRequest, Overloaded, Unavailable
from contract.spec import Deployment

_RELEASES = 64  # the drain rate is that of so many requests
_SURE = 16  # ended requests, before one is refused for how long it would take
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


def most_in_flight(spec: Deployment) -> Load:
    """What one deployment takes on."""
    return Load(spec.gateway.max_requests or spec.limits.max_batch_size, spec.gateway.max_tokens)


@dataclass(frozen=True, eq=False)
class Ticket:
    """What was admitted; to be given back once."""

    key: str
    load: Load
    began: float = 0.0  # on the admission's clock
    number: int = 0  # where another process admits: by which it knows this one


@dataclass(eq=False)
class _Waiter:
    ticket: Ticket
    granted: asyncio.Future[Ticket]


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
    _admitted: int = 0
    _let_in: dict[str, int] = field(default_factory=dict)  # key -> which of the admitted its last one was
    _released: deque[tuple[float, Load]] = field(default_factory=lambda: deque(maxlen=_RELEASES))
    _took_s: deque[float] = field(default_factory=lambda: deque(maxlen=_RELEASES))

    @property
    def queued(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    @property
    def most_answers(self) -> int:
        """How many answers one request may ask for."""
        return min(limit.requests or sys.maxsize for limit in (self.limit, self.per_key))

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
        if self._fits(ticket) and not any(self._key_has_room(waiter.ticket) for waiter in self._queue):
            return self._take(ticket)
        patience_s = self._patience(ticket, deadline)
        waiter = _Waiter(ticket, asyncio.get_running_loop().create_future())
        self._queue.append(waiter)
        self._grant()  # its key's turn may come before that of who stands there
        try:
            async with asyncio.timeout(patience_s):
                ticket = await waiter.granted
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
        now = self.clock()
        self._released.append((now, ticket.load))
        self._took_s.append(now - ticket.began)
        self._grant()

    def close(self) -> None:
        """Refuse what waits and what is new."""
        self.closed = True
        for waiter in self._queue:
            if not waiter.granted.done():
                waiter.granted.set_exception(_stopping())

    def follow(self, spec: Deployment) -> None:
        """Keep the limit of another version from now on; what a release may change of it is the engine's batch."""
        self.limit = most_in_flight(spec)
        self._grant()

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
        self._admitted += 1
        self._let_in[ticket.key] = self._admitted
        return replace(ticket, began=self.clock())

    def _grant(self) -> None:
        """Start what now fits, the key with the least in flight first; who waits for his own key lets others pass."""
        while waiter := self._next():
            self._queue.remove(waiter)
            waiter.granted.set_result(self._take(waiter.ticket))

    def _next(self) -> _Waiter | None:
        """The waiter whose turn it is; None when that one does not fit."""
        able = [each for each in self._queue if not each.granted.done() and self._key_has_room(each.ticket)]
        turn = min(able, key=lambda each: self._turn_of(each.ticket.key), default=None)
        return turn if turn and self._fits(turn.ticket) else None

    def _turn_of(self, key: str) -> tuple[int, int]:
        """The fewest in flight come first, then who was let in longest ago."""
        return self._of_key.get(key, Load()).requests, self._let_in.get(key, 0)

    def _leave(self, waiter: _Waiter) -> None:
        if waiter in self._queue:
            self._queue.remove(waiter)
        elif waiter.granted.done() and not waiter.granted.cancelled() and not waiter.granted.exception():
            self.release(waiter.granted.result())
        self._grant()

    def _give_way(self, key: str) -> bool:
        """Turn the last waiter of the key with the most away, where that leaves it as many as this one; else False."""
        waiting = Counter(waiter.ticket.key for waiter in self._queue)
        if not waiting:
            return False
        greediest, most = waiting.most_common(1)[0]
        if most <= waiting[key] + 1:
            return False
        last = next(waiter for waiter in reversed(self._queue) if waiter.ticket.key == greediest)
        self._queue.remove(last)
        if not last.granted.done():
            last.granted.set_exception(self._overloaded("another key has its turn to wait", last.ticket.load))
        return True

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
        left_s = self.patience_s if deadline is None else min(self.patience_s, deadline - self.clock())
        expected_s = self._wait_s(ticket.load)
        if expected_s is not None and expected_s > left_s:
            raise self._overloaded(f"room is expected in {expected_s:.1f} s only", ticket.load)
        self._check_time(expected_s or 0.0, deadline)
        if len(self._queue) >= self.queue_size and not self._give_way(ticket.key):
            raise self._overloaded(f"{len(self._queue)} requests wait already", ticket.load)
        return max(0.0, left_s)

    def _check_time(self, wait_s: float, deadline: float | None) -> None:
        """Refuse what would wait and then end too late, were its answer as quick as the quickest quarter of late.

        Raises:
            Overloaded: its deadline is earlier.
        """
        if deadline is None or len(self._took_s) < _SURE:
            return
        takes_s = wait_s + quantiles(self._took_s, n=4)[0]
        left_s = deadline - self.clock()
        if takes_s > left_s:
            raise self._overloaded(f"an answer is expected in {takes_s:.1f} s, the deadline is in {left_s:.1f} s")

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
