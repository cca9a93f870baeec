"""What every process that sends load does: keeps to the schedule, runs conversations, hands rows over.

Locust's users only lend their greenlets. In the open loop one of them paces the process's share of the schedule and
starts a greenlet for each request when it is due, so no answer that is late holds up the next request.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gevent
import psutil
from gevent.event import AsyncResult, Event
from gevent.pool import Group
from locust.env import Environment
from locust.exception import StopUser

from contract.errors import ConchError
from loadtests.load.asking import asked
from loadtests.load.models import planned
from loadtests.load.options import Plan
from loadtests.load.rows import Row
from loadtests.load.streams.target import Clock, Stream, clock_from
from loadtests.load.workload import Ask

_TIMER_S = 0.0015  # gevent's timers tick in milliseconds; what is left of a wait is passed by yielding


@dataclass(frozen=True)
class Go:
    """The director's word to begin."""

    begins: float  # of the wall clock
    worker: int
    workers: int


@dataclass(frozen=True)
class _Run:
    """What one run needs in this process."""

    plan: Plan
    stream: Stream
    clock: Clock
    go: Go


class Worker:
    """One process's part of each run.

    Args:
        emit: takes finished rows.
        done: called when this process has sent all and read all.
    """

    def __init__(self, environment: Environment, emit: Callable[[Row], None], done: Callable[[], None]) -> None:
        self.cpu: list[tuple[float, float]] = []  # (when, percent of a core)
        self._environment = environment
        self._emit = emit
        self._done = done
        self._go: AsyncResult[Go] = AsyncResult()
        self._run: _Run | None = None
        self._users = 0
        self._requests = Group()
        self._sent = Event()

    def go(self, go: Go) -> None:
        """Begin when told; the options may come later than this."""
        self._go.set(go)

    def reset(self) -> None:
        """Be ready for another run."""
        self._requests.kill(block=False)
        self.cpu = []
        self._go, self._run, self._users = AsyncResult(), None, 0
        self._requests, self._sent = Group(), Event()

    def work(self) -> None:
        """A user's whole life."""
        number, self._users = self._users, self._users + 1
        go = self._go.get()
        if self._run is None:
            try:
                self._run = self._prepared(go)
            except ConchError as refusal:  # what the director could read, this machine cannot: its rows will be missed
                print(refusal, flush=True)
                self._done()
                raise StopUser from None
            gevent.spawn(self._finish, self._run)
            gevent.spawn(self._sample_cpu, self._run)
        run = self._run
        if run.plan.closed:
            self._converse_until_the_end(run, number)
        elif number == 0:
            self._pace(run)
        raise StopUser

    def _prepared(self, go: Go) -> _Run:
        plan = planned(self._environment)
        return _Run(plan, plan.stream(), clock_from(go.begins), go)

    def _pace(self, run: _Run) -> None:
        """Start each request of our share when it is due."""
        for number, arrival in enumerate(run.plan.schedule()):
            if number % run.go.workers != run.go.worker:
                continue
            opening = run.plan.workload.opening(number, arrival)  # before it is due, so that it leaves when due
            gevent.sleep(max(0.0, arrival.at - _TIMER_S - run.clock()))
            while run.clock() < arrival.at:
                gevent.sleep(0)
            self._requests.spawn(self._conversation, run, opening, number, arrival.at)
            gevent.sleep(0)  # it leaves before the next one is drawn
        self._sent.set()

    def _converse_until_the_end(self, run: _Run, user: int) -> None:
        gevent.sleep(max(0.0, -run.clock()))
        number = run.go.worker + run.go.workers * user
        while run.clock() < run.plan.seconds:
            # Other users' numbers are other residues, so no two requests of the run have the same.
            opening = run.plan.workload.opening(number)
            self._requests.spawn(self._conversation, run, opening, number, run.clock()).join()
            number += 100_003 * run.go.workers
            gevent.sleep(run.plan.think)

    def _conversation(self, run: _Run, opening: Ask, number: int, intended: float) -> None:
        """An opening and its further turns, each after the answer before and the time to think."""
        ask: Ask | None = opening
        while ask is not None:
            text, row = self._request(run, ask, number, intended)
            self._emit(row)
            if row.failed or run.clock() >= run.plan.seconds:
                return
            ask = run.plan.workload.further(ask, text, number)
            if ask is not None:
                intended = run.clock() + run.plan.think
                gevent.sleep(run.plan.think)

    def _request(self, run: _Run, ask: Ask, number: int, intended: float) -> tuple[str, Row]:
        """One request and its row; Locust's table gets it once, with its whole time."""
        row = Row(
            number=number, worker=run.go.worker, kind=ask.kind, turn=ask.turn, intended=intended, sent=run.clock()
        )
        text, fault = asked(run.stream, ask, row, run.clock)
        fire: Any = self._environment.events.request.fire
        fire(
            request_type=run.plan.transport,
            name=ask.kind,
            response_time=1000 * (row.ended - row.intended),
            response_length=len(text),
            exception=fault,
            context={},
        )
        return text, row

    def _finish(self, run: _Run) -> None:
        """Wait until all is sent and read, a request's own timeout at most."""
        gevent.sleep(max(0.0, run.plan.seconds - run.clock()))
        if not run.plan.closed:
            self._sent.wait()
        self._requests.join(timeout=run.plan.target.timeout_s * run.plan.workload.turns)
        if self._run is run:
            self._done()

    def _sample_cpu(self, run: _Run) -> None:
        own = psutil.Process()
        own.cpu_percent()
        while True:
            gevent.sleep(1.0)
            if self._run is not run:
                return
            if run.clock() > 0:
                self.cpu.append((round(run.clock(), 3), own.cpu_percent()))
