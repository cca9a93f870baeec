"""The traffic as a judge: the version on trial gets a share of it, then a larger one, and is compared all the while.

Speeds are compared fairly where both versions have the same load, which is at one half: with a smaller share a version
is less loaded, and what is found slower then is slower indeed.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from contract.errors import ServeError
from contract.rollout import OBSERVED, Observed, Rollout, tell_rollout
from release.candidate import Candidate
from release.compared import Comparison
from release.course import Course
from release.live import Live

_LOOK_S = 0.5
_QUIET_S = 2.0  # of the whole of the traffic at the end, at least


@dataclass(frozen=True)
class Plan:
    """How a version is tried.

    Args:
        shares: of the requests, one after the other, 0 to 1; 1 is given last in any case.
        pairs: of answers that are compared before the next share.
        patience_s: for those pairs; where less traffic comes, it goes on with what came.
        alarm: the chance, at most, that a version that is no worse is rolled back for what the traffic says of it.
    """

    shares: tuple[float, ...] = (0.05, 0.25, 0.5)
    pairs: int = 60
    patience_s: float = 600.0
    alarm: float = 0.05


@dataclass
class Reader:
    """The answers that the gateway tells of, as they come."""

    path: Path
    _at: int = 0
    _rest: bytes = field(default=b"")

    def fresh(self) -> Iterator[Observed]:
        """Those since the last call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._at)
                read = file.read()
        except FileNotFoundError:
            return
        self._at += len(read)
        *lines, self._rest = (self._rest + read).split(b"\n")
        for line in lines:
            yield msgspec.json.decode(line, type=Observed)


def tried(course: Course, candidate: Candidate, plan: Plan) -> None:
    """Give a version its shares of the traffic; all of it in the end. The report gets what was seen at each.

    Raises:
        ServeError: it is worse, or its server ended, or the current one's.
    """
    live, release = course.live, course.report.release
    found: list[dict[str, Any]] = course.report.found.setdefault("shares", [])
    reader = Reader(course.folder / OBSERVED)
    for share in plan.shares:
        tell_rollout(live.run_dir, Rollout(release, share, candidate.config, candidate.root))
        comparison = Comparison(plan.alarm / len(plan.shares))
        began = time.monotonic()
        try:
            _watch(live, candidate, reader, comparison, plan)
        finally:
            found.append({"share": share, "seconds": round(time.monotonic() - began, 1), **comparison.told()})
        short = "" if comparison.pairs >= plan.pairs else f", fewer than {plan.pairs}: little traffic came"
        course.say(f"{share:.0%} of the traffic: {comparison.pairs} pairs of answers compared{short}; nothing is worse")
    tell_rollout(live.run_dir, Rollout(release, 1.0, candidate.config, candidate.root))
    _all_of_it(live, candidate, reader)
    course.say("all of the traffic: it answers")


def _watch(live: Live, candidate: Candidate, reader: Reader, comparison: Comparison, plan: Plan) -> None:
    deadline = time.monotonic() + plan.patience_s
    while comparison.pairs < plan.pairs and time.monotonic() < deadline:
        for observed in reader.fresh():
            comparison.take(observed)
        _check(live, candidate)
        if comparison.alarmed:
            raise ServeError(comparison.alarmed)
        time.sleep(_LOOK_S)


def _all_of_it(live: Live, candidate: Candidate, reader: Reader) -> None:
    """Without the other to compare it with: it must not fail."""
    deadline = time.monotonic() + _QUIET_S
    failures = 0
    while time.monotonic() < deadline:
        failures += sum(observed.failed for observed in reader.fresh() if observed.trial)
        _check(live, candidate)
        if failures:
            raise ServeError(f"it fails on {failures} requests when it gets all of them")
        time.sleep(_LOOK_S)


def _check(live: Live, candidate: Candidate) -> None:
    if trouble := candidate.trouble:
        raise ServeError(trouble)
    _ = live.state  # which raises where the current server's supervisor is gone
