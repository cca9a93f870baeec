"""Who may start now, who waits, and who is told to come back: decided before the server is asked for anything.

A request weighs what it may come to hold: its answers in flight, and its tokens (prompt and max_tokens).
What does not fit waits in one bounded queue: interactive keys come before batch keys, the keys of a class take turns,
the requests of a key their order, and when the queue is full the key with the most in it gives way, a batch key first.
Batch keys together hold no more than their share, so that an interactive request waits for no batch answer to end, and
begin while nobody awaits a first token (gateway/first_tokens.py).
A request that would wait too long, or that cannot end before its own deadline, is refused at once, with the time that
the measured drain rate says it should stay away; one beyond its key's quota, with the time until that has room.
Pure asyncio: one event loop, no threads.
"""

import asyncio
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from contract.errors import DeadlineExceeded, InvalidRequest, Unavailable
from contract.spec import Deployment
from gateway.first_tokens import FirstTokens
from gateway.held import Held, Ticket
from gateway.load import Load, most_in_flight
from gateway.pace import LONGEST_RETRY_S, Pace
from gateway.quota import Quotas
from gateway.standing import ComeBack, seconds_told


@dataclass(eq=False)
class _Waiter:
    ticket: Ticket
    granted: asyncio.Future[Ticket]


@dataclass
class Admission:
    """The requests in flight of one deployment, and those that wait.

    Args:
        held: those in flight, and how many may be.
        queue_size: how many requests may wait, and ``patience_s`` how long.
    """

    held: Held
    queue_size: int
    patience_s: float
    quotas: Quotas = field(default_factory=Quotas)
    clock: Callable[[], float] = time.monotonic
    closed: bool = False
    _queue: deque[_Waiter] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._pace = Pace(self.clock)
        self._batch_pace = Pace(self.clock)
        self._first_tokens = FirstTokens(self._grant)

    @property
    def in_flight(self) -> Load:
        """What is, in requests and tokens."""
        return self.held.all

    @property
    def queued(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    @property
    def most_answers(self) -> int:
        """How many answers one request may ask for."""
        return min(limit.requests or sys.maxsize for limit in (self.held.limit, self.held.per_key))

    async def admit(self, key: str, load: Load, deadline: float | None = None) -> Ticket:
        """Wait for room; the ticket must go back through :meth:`release`.

        Args:
            deadline: on this admission's clock; after it the answer is of no use.

        Raises:
            InvalidRequest: more than there can ever be room for, or quota.
            ComeBack: no room, and none soon enough, or the key's quota is spent.
            DeadlineExceeded: the deadline passed in the queue.
            Unavailable: the gateway is stopping.
        """
        if self.closed:
            raise _stopping()
        batch = self.quotas.is_batch(key)
        ticket = Ticket(key, self._possible(load, batch=batch), batch, load.tokens)
        self.quotas.charge(key, load.tokens)
        try:
            ticket = await self._room(ticket, deadline)
        except BaseException as error:
            self.quotas.settle(key, load.tokens, requests=1)
            if isinstance(error, ComeBack):
                error.standing = self.quotas.standing(key)
            raise
        return replace(ticket, standing=self.quotas.standing(key))

    async def _room(self, ticket: Ticket, deadline: float | None) -> Ticket:
        if self._begins(ticket) and not any(self.held.has_room(each.ticket) for each in self._before(ticket)):
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
            raise self._overloaded(f"no room within {self.patience_s:g} s", ticket) from None
        except BaseException:
            self._leave(waiter)
            raise
        return ticket

    def first_token(self, ticket: Ticket) -> None:
        """A request has its first token, or will say nothing before it ends; batch requests wait for that."""
        if self._first_tokens.came(ticket.number):
            self._grant()

    def release(self, ticket: Ticket, used: int | None) -> None:
        """Give back what a request held.

        Args:
            used: the tokens that it came to; None where nobody knows, and it came to what was charged.
        """
        if used is not None:
            self.quotas.settle(ticket.key, ticket.charged - used)
        self._give_back(ticket)

    def close(self) -> None:
        """Refuse what waits and what is new."""
        self.closed = True
        for waiter in self._queue:
            if not waiter.granted.done():
                waiter.granted.set_exception(_stopping())

    def follow(self, spec: Deployment) -> None:
        """Keep the limits of another version from now on; what a release may change of them is the engine's batch."""
        self.held.limit, self.held.batch = most_in_flight(spec)
        self._grant()

    def retry_after_s(self) -> float:
        """When there should be room for one more, at the measured drain rate."""
        return self._come_back_s(Ticket("", Load(1)))

    def _come_back_s(self, ticket: Ticket) -> float:
        return min(LONGEST_RETRY_S, max(1.0, self._wait_s(ticket) or 1.0))

    def _begins(self, ticket: Ticket) -> bool:
        """Whether a request fits, and has not to let another have its first token first."""
        waits = ticket.batch and self.queue_size
        return self.held.fits(ticket) and not (waits and self._first_tokens.hold())

    def _take(self, ticket: Ticket) -> Ticket:
        if ticket.batch:
            self._first_tokens.let_one_in()
        taken = self.held.take(ticket, self.clock())
        self._first_tokens.await_one(taken.number)
        return taken

    def _give_back(self, ticket: Ticket) -> None:
        self.held.give_back(ticket)
        self._first_tokens.came(ticket.number)
        for pace in (self._pace, self._batch_pace) if ticket.batch else (self._pace,):
            pace.ended(ticket.load, ticket.began)
        self._grant()

    def _grant(self) -> None:
        """Start what now fits, the key with the least in flight first; who waits for his own key lets others pass."""
        while waiter := self._next():
            self._queue.remove(waiter)
            waiter.granted.set_result(self._take(waiter.ticket))

    def _next(self) -> _Waiter | None:
        """The waiter whose turn it is; None when that one does not fit."""
        able = [each for each in self._queue if not each.granted.done() and self.held.has_room(each.ticket)]
        turn = min(able, key=lambda each: self.held.turn_of(each.ticket), default=None)
        return turn if turn and self._begins(turn.ticket) else None

    def _leave(self, waiter: _Waiter) -> None:
        if waiter in self._queue:
            self._queue.remove(waiter)
        elif waiter.granted.done() and not waiter.granted.cancelled() and not waiter.granted.exception():
            self._give_back(waiter.granted.result())
        self._grant()

    def _before(self, ticket: Ticket) -> list[_Waiter]:
        """Who waits and does not yield to this one."""
        return [each for each in self._queue if ticket.batch or not each.ticket.batch]

    def _give_way(self, ticket: Ticket) -> bool:
        """Turn the last waiter of the key with the most away; False where nobody has to give way.

        A batch key has to for an interactive one, any other where that leaves it as many as this one.
        """
        yielding = [each for each in self._queue if each.ticket.batch and not ticket.batch]
        among = yielding or [each for each in self._queue if each.ticket.batch == ticket.batch]
        waiting = Counter(each.ticket.key for each in among)
        if not waiting:
            return False
        greediest, most = waiting.most_common(1)[0]
        if not yielding and most <= waiting[ticket.key] + 1:
            return False
        last = next(each for each in reversed(among) if each.ticket.key == greediest)
        self._queue.remove(last)
        if not last.granted.done():
            why = "an interactive request takes this one's place" if yielding else "another key has its turn to wait"
            last.granted.set_exception(self._overloaded(why, last.ticket))
        return True

    def _possible(self, load: Load, *, batch: bool) -> Load:
        """The load, unless there is never room for it; tokens are an estimate, so they are capped instead."""
        held = self.held
        for limit in (held.limit, held.per_key, *((held.batch,) if batch else ())):
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
            ComeBack: it would be in vain.
        """
        left_s = self.patience_s if deadline is None else min(self.patience_s, deadline - self.clock())
        expected_s = self._wait_s(ticket)
        if expected_s is not None and expected_s > left_s:
            raise self._overloaded(f"room is expected in {expected_s:.1f} s only", ticket)
        self._check_time(ticket, expected_s or 0.0, deadline)
        if len(self._queue) >= self.queue_size and not self._give_way(ticket):
            raise self._overloaded(f"{len(self._queue)} requests wait already", ticket)
        return max(0.0, left_s)

    def _check_time(self, ticket: Ticket, wait_s: float, deadline: float | None) -> None:
        """Refuse what would wait and then end too late, were its answer as quick as the quickest quarter of late.

        Raises:
            ComeBack: its deadline is earlier.
        """
        quick_s = self._pace.quick_s()
        if deadline is None or quick_s is None:
            return
        takes_s, left_s = wait_s + quick_s, deadline - self.clock()
        if takes_s > left_s:
            why = f"an answer is expected in {takes_s:.1f} s, the deadline is in {left_s:.1f} s"
            raise self._overloaded(why, ticket)

    def _wait_s(self, ticket: Ticket) -> float | None:
        """How long until there is room for one more, behind who goes before; None: not known yet."""
        before = [each.ticket for each in self._before(ticket)]
        waits = [self._pace.wait_s(self.held.all + _all(ticket, *before), self.held.limit)]
        if ticket.batch:
            of_class = [each for each in before if each.batch]
            waits.append(self._batch_pace.wait_s(self.held.of_batch + _all(ticket, *of_class), self.held.batch))
        return max((each for each in waits if each is not None), default=None)

    def _overloaded(self, why: str, ticket: Ticket) -> ComeBack:
        retry_after_s = self._come_back_s(ticket)
        return ComeBack(
            f"{self.in_flight.requests} requests are in flight and {why}",
            retry_after_s,
            fix=f"Try again in {seconds_told(retry_after_s)} s",
        )


def _all(*tickets: Ticket) -> Load:
    return sum((each.load for each in tickets), Load())


def _stopping() -> Unavailable:
    return Unavailable("the gateway is stopping", fix="Try again once it is back")
