"""The order of a comparison: round by round every server is started, measured and stopped, the next round backwards.

So each engine has the machine to itself, and a slow quarter of an hour falls on all of them. What fails has its reason
in the record, and the others go on.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from contract.errors import ConchError
from contract.manifest import this_machine
from loadtests.compare import correct, doors, rates, speed
from loadtests.compare.doors import Absent, Door
from loadtests.compare.effort import ALONE, BURST, GATEWAY, MEMORY, ONCE, TTFT, WAYS, Effort
from loadtests.compare.entrants import Entrant
from loadtests.compare.memory import memory
from loadtests.compare.record import Cell, Record, key_of
from loadtests.compare.reference import Reference, reference_of
from loadtests.compare.structured import structured
from loadtests.fleet import fresh

START = "start"
_FAULTS = (ConchError, OSError, psutil.Error, ValueError, LookupError)


@dataclass(frozen=True)
class Stop:
    """A server that is started in each round."""

    entrant: Entrant
    ways: tuple[str, ...]
    open: Callable[[], AbstractContextManager[tuple[Door, ...]]]


class Comparison:
    """Everything that is measured, into one record.

    Args:
        changed: called after each cell.
    """

    def __init__(
        self, entrants: list[Entrant], effort: Effort, folder: Path, record: Record, changed: Callable[[], object]
    ) -> None:
        self.entrants, self.effort, self._folder, self.record, self._changed = entrants, effort, folder, record, changed
        self._what = {
            each.name: (
                each.spec.model_dump(mode="json", exclude={"ports"}),
                each.manifest.version if each.manifest else "",
                each.versions,
                this_machine().cpu,
                effort.measured(),
            )
            for each in entrants
        }
        self._references: dict[str, Reference | ConchError] = {}
        self._kept: set[str] = set()  # keys of this run
        self.failed = False  # whether a cell has no result that might have had one

    def run(self) -> None:
        """All rounds."""
        for entrant in self.entrants:
            self._refer(entrant)
        stops = [stop for entrant in self.entrants for stop in self._stops(entrant)]
        if self.effort.beside:
            for stop in stops:
                self._visit(stop, range(self.effort.rounds))
            return
        for number in range(self.effort.rounds):
            for stop in stops if number % 2 == 0 else reversed(stops):
                self._visit(stop, [number])

    def measures(self, number: int) -> Iterator[str]:
        """What a round measures, in its order."""
        bursts = [f"{BURST}-{streams}" for streams in self.effort.streams]
        # The memory after the same work for every way.
        for measure in (bursts[0], TTFT, *bursts[1:], MEMORY, *(ONCE if number == 0 else ())):
            if measure.partition("-")[0] in self.effort.measures:
                yield measure

    def ways(self, entrant: Entrant) -> list[str]:
        """The ways to ask an entrant, in the table's order."""
        return [way for stop in self._stops(entrant) for way in stop.ways]

    def key(self, entrant: Entrant, way: str, number: int, measure: str) -> str:
        """Under which a cell is found again."""
        return key_of(*self._what[entrant.name], way, number, measure)

    def _stops(self, entrant: Entrant) -> list[Stop]:
        log = self._folder / f"{entrant.name}-{ALONE}.log"
        clients = self.effort.clients
        served = [way for way in WAYS if way != GATEWAY or entrant.spec.gateway.enabled]
        ways = tuple(way for way in served if way in self.effort.ways)
        ours = tuple(way for way in ways if way != ALONE)
        if self.effort.beside:
            return [Stop(entrant, ways, lambda: doors.beside(entrant, clients, log))]
        stops = [
            Stop(entrant, tuple(way for way in ways if way == ALONE), lambda: doors.alone(entrant, clients, log)),
            Stop(entrant, ours, lambda: doors.ours(entrant, clients)),
        ]
        return [stop for stop in stops if stop.ways]

    def _visit(self, stop: Stop, rounds: Sequence[int]) -> None:
        """Start a server, measure so many rounds and stop it."""
        wanted = [
            (way, number, measure)
            for number in rounds
            for measure in (START, *self.measures(number))
            for way in stop.ways
            if not self.record.settled(self.key(stop.entrant, way, number, measure))
        ]
        if not wanted:
            numbers = ", ".join(str(number + 1) for number in rounds)
            print(f"{stop.entrant.name}, {' and '.join(stop.ways)}, round {numbers}: kept from before", flush=True)
            return
        try:
            with stop.open() as open_doors:
                self._measure(stop.entrant, {door.way: door for door in open_doors}, wanted)
        except Absent as reason:
            for way, number, measure in wanted:
                self._keep(stop.entrant, way, number, measure, absent=str(reason))
        except _FAULTS as fault:  # of the start; a server that ends badly was measured all the same
            for way, number, measure in wanted:
                if self.key(stop.entrant, way, number, measure) not in self._kept:
                    self._keep(stop.entrant, way, number, measure, failed=str(fault) or repr(fault))

    def _measure(self, entrant: Entrant, by_way: dict[str, Door], wanted: list[tuple[str, int, str]]) -> None:
        for way, number, measure in wanted:
            try:
                result = self._one(entrant, by_way[way], number, measure)
            except Absent as reason:
                self._keep(entrant, way, number, measure, absent=str(reason))
            except _FAULTS as fault:
                self._keep(entrant, way, number, measure, failed=str(fault) or repr(fault))
            else:
                self._keep(entrant, way, number, measure, result=result)

    def _one(self, entrant: Entrant, door: Door, number: int, measure: str) -> dict[str, Any]:
        kind, _, count = measure.partition("-")
        rng = random.Random(repr((entrant.name, door.way, number, measure)))
        prompts = partial(fresh, rng, entrant.tokens)
        match kind:
            case "start":
                return {"seconds": door.start_s, "command": door.command}
            case "burst":
                return speed.burst(door, prompts, self.effort, int(count))
            case "ttft":
                return speed.first_token(door, prompts, self.effort, entrant)
            case "greedy":
                return correct.greedy(door, self._reference(entrant))
            case "top1":
                return correct.top1(door, self._reference(entrant))
            case "recall":
                return correct.recall(door, self._reference(entrant))
            case "json":
                return self._structured(entrant, door)
            case "capacity":
                folder = self._folder / "capacity" / f"{entrant.name}-{door.way}"
                return rates.capacity(door, self.effort, self._first_rate(entrant, door.way, number), folder)
            case _:
                return memory(door)

    def _structured(self, entrant: Entrant, door: Door) -> dict[str, Any]:
        if entrant.manifest is None:
            raise Absent(f"runtime {entrant.spec.engine.runtime} has no structured output")
        if reason := entrant.why_no_reference:
            raise Absent(reason)
        return structured(door, self.effort.schemas)

    def _refer(self, entrant: Entrant) -> None:
        """Ask the reference while nothing else runs, unless its answers are compared already."""
        compared = [
            self.key(entrant, way, 0, measure)
            for way in self.ways(entrant)
            for measure in {"greedy", "top1", "recall"}.intersection(self.effort.measures)
        ]
        if all(self.record.settled(key) for key in compared):
            return
        try:
            self._references[entrant.name] = reference_of(entrant, self.effort, self._folder)
        except ConchError as reason:
            self._references[entrant.name] = reason

    def _reference(self, entrant: Entrant) -> Reference:
        found = self._references[entrant.name]
        if isinstance(found, ConchError):
            raise found
        return found

    def _first_rate(self, entrant: Entrant, way: str, number: int) -> float:
        """Half of what the most streams at once brought."""
        cell = self.record.get(self.key(entrant, way, number, f"burst-{max(self.effort.streams)}"))
        speed_ = cell.result["tokens_per_s"] if cell and cell.result else 2.0 * self.effort.output_tokens
        return float(0.5 * speed_ / self.effort.output_tokens)

    def _keep(
        self,
        entrant: Entrant,
        way: str,
        number: int,
        measure: str,
        *,
        result: dict[str, Any] | None = None,
        failed: str = "",
        absent: str = "",
    ) -> None:
        key = self.key(entrant, way, number, measure)
        self._kept.add(key)
        self.failed |= bool(failed)
        self.record.keep(Cell(key, entrant.name, way, number, measure, result, failed, absent))
        said = absent or failed or _brief(measure, result or {})
        mark = "–" if absent else "failed:" if failed else ""
        print(time.strftime("%H:%M:%S"), f"{entrant.name} {way} {measure}", mark, said.splitlines()[-1], flush=True)
        self._changed()


def _brief(measure: str, result: dict[str, Any]) -> str:
    """A line for people who watch."""
    if measure == "capacity":
        return str(result["sentence"])
    shown = {name: value for name, value in result.items() if name not in ("command", "itl_ms", "gap_ms", "faults")}
    return ", ".join(f"{name} {value}" for name, value in shown.items())
