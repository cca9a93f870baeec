"""The one process that owns a run: says when it begins, gathers what all workers saw, and judges it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import msgspec
from gevent.event import Event
from locust.env import Environment

from contract.errors import ConchError
from loadtests.load import canary, scrape
from loadtests.load.baseline import read_baseline
from loadtests.load.fault import LoadError
from loadtests.load.models import planned
from loadtests.load.options import Plan
from loadtests.load.report import Result, write_report
from loadtests.load.rows import Row, append_rows
from loadtests.load.streams.target import Clock, clock_from
from loadtests.load.summary import Client, summarize

ROWS, SERVER, CANARIES = "rows.jsonl", "server.jsonl", "canaries.jsonl"
_HEAD_START_S = 1.0  # for users to be there when the first request is due
_PATIENCE_S = 15.0  # for workers, beyond their own time


class Director:
    """Gathers one run after the other.

    Args:
        send_go: tells the workers to begin, and returns how many there are.
        end: called with the exit code and the verdict when a run is judged.
    """

    def __init__(
        self, environment: Environment, send_go: Callable[[float], int], end: Callable[[int, str], None]
    ) -> None:
        self.rows: list[Row] = []
        self.readings: list[scrape.Reading] = []
        self.sightings: list[canary.Sighting] = []
        self.plan: Plan | None = None
        self.clock: Clock = lambda: 0.0
        self._environment = environment
        self._send_go = send_go
        self._end = end
        self._cpu: dict[int, list[tuple[float, float]]] = {}
        self._begins = 0.0  # of the wall clock
        self._workers = 0
        self._waiting = 0
        self._all_done = Event()
        self._over = True

    def begin(self) -> None:
        """Start a run; an option or a server that is wrong ends it here."""
        try:
            self._begin()
        except ConchError as refusal:
            self._over = True
            self._end(2, str(refusal))

    def take(self, rows: list[Row]) -> None:
        """Rows that a worker hands over."""
        if self.plan is None or not rows:
            return
        self.rows += rows
        append_rows(self.plan.out / ROWS, rows)

    def take_cpu(self, worker: int, samples: list[tuple[float, float]]) -> None:
        """What a worker used."""
        self._cpu.setdefault(worker, []).extend(samples)

    def done(self) -> None:
        """A worker has sent and read all."""
        self._waiting -= 1
        if self._waiting <= 0:
            self._all_done.set()

    def stopped(self) -> None:
        """Locust stopped the run; before its time, if it is not over."""
        if not self._over:
            self._finish("it was stopped before its end")

    def _begin(self) -> None:
        plan = planned(self._environment)
        if plan.baseline:
            read_baseline(plan.baseline)
        self.rows, self.readings, self.sightings, self._cpu = [], [], [], {}
        _fresh(plan.out)
        known: dict[str, str] = {}
        stream = plan.stream()
        if plan.canary_every:
            known = canary.known_answers(plan.canaries, stream, clock_from(time.time()))
        self.plan = plan
        self._over = False
        self._all_done.clear()
        self._begins = time.time() + _HEAD_START_S
        self.clock = clock_from(self._begins)
        self._workers = self._waiting = self._send_go(self._begins)
        if self._workers < 1:
            raise LoadError("no worker is connected")
        over = self._all_done.is_set
        gevent.spawn(scrape.watch, plan.metrics_url, over, self.clock, self._saw_server)
        if known:
            gevent.spawn(canary.watch, known, plan.canary_every, plan.seconds, (stream, self.clock), self._saw_canary)
        gevent.spawn(self._wait, plan)

    def _wait(self, plan: Plan) -> None:
        limit = _HEAD_START_S + plan.seconds + plan.target.timeout_s * plan.workload.turns + _PATIENCE_S
        in_time = self._all_done.wait(limit)
        if self.plan is plan and not self._over:
            self._finish("" if in_time else "a worker did not finish")

    def _finish(self, cut_short: str) -> None:
        plan = self.plan
        assert plan is not None
        self._over = True
        self._all_done.set()
        scheduled = None if plan.closed else len(plan.schedule())
        client = Client(self._begins, self._workers, self._cpu, scheduled, cut_short)
        result = Result(plan, self.rows, summarize(self.rows, plan, client), self.readings, self.sightings, self._cpu)
        report = write_report(result, plan.out)
        verdict = "\n".join([report["sentence"], *report["failures"], f"report: {plan.out / 'report.html'}"])
        self._end(1 if report["failures"] else 0, verdict)

    def _saw_server(self, reading: scrape.Reading) -> None:
        self.readings.append(reading)
        self._append(SERVER, reading)

    def _saw_canary(self, sighting: canary.Sighting) -> None:
        self.sightings.append(sighting)
        self._append(CANARIES, sighting)

    def _append(self, name: str, thing: Any) -> None:
        assert self.plan is not None
        with (self.plan.out / name).open("ab") as file:
            file.write(msgspec.json.encode(thing) + b"\n")


def _fresh(folder: Path) -> None:
    """An empty folder; only what a run writes is removed from an old one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (ROWS, SERVER, CANARIES, "report.html", "report.json"):
        (folder / name).unlink(missing_ok=True)
