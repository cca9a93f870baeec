"""A search: trial after trial while there is time, then the best found beside the default, then the report.

Once a setting is better than the default, the time to compare them is kept back. However it ends, what was found by
then is reported, and the engine that a trial had built does not stay the deployment's, unless it is the tuned one's.
"""

import statistics
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from contract.engines.knobs import Settings
from contract.errors import ConchError
from loadtests.load.fault import LoadError
from loadtests.load.options import Plan
from loadtests.tune.beside import Beside, Rounds, compared, rounds_of
from loadtests.tune.climb import Offer
from loadtests.tune.document import written
from loadtests.tune.report import Result, write_report
from loadtests.tune.space import Space
from loadtests.tune.study import Record, Study, leading
from loadtests.tune.trial import OVERHEAD_S, SHORT, STOP_S, Bench, tried

TUNED = "tuned.yaml"
_REPEATS = 30  # settings in a row that were tried before: the search has nothing new to say
_LATELY = 4  # trials
_TO_COMPARE = 0.45  # of the time, at most: kept back once there is something to compare


@dataclass(frozen=True)
class Search:
    """All that one run of the command has."""

    plan: Plan
    space: Space
    study: Study
    bench: Bench
    out: Path
    budget_s: float
    ends: float  # of the monotonic clock

    def run(self) -> int:
        """To its end; the exit code.

        Raises:
            ConchError: the default does not run, or one of the two does not start a second time.
        """
        beside = None
        try:
            self._try_settings()
            beside = self._compare()
        except BaseException:
            if self.study.records():
                self._report(None, cut=True)
            self._leave(self.space.default)
            raise
        result = self._report(beside)
        self._leave(result.best.settings if result.better else self.space.default)
        return 0 if result.best.goodput else 1

    def _try_settings(self) -> None:
        records = self.study.records()
        for kept in records:
            _say(f"trial {kept.number}: {kept.goodput:.2f} good answers/s (kept from before)")
        self.bench.remember(records)
        repeats = 0
        while repeats < _REPEATS and (not records or self._time_for_another(records)):
            asked = self.study.next()
            earlier = next((each for each in records if each.settings == asked.settings), None)
            if earlier:
                repeats += 1
                first = earlier.number if earlier.same_as is None else earlier.same_as
                record = replace(earlier, number=asked.number, same_as=first)
            else:
                repeats = 0
                _say(f"trial {asked.number}: {described(self.space.changed(asked.settings))}")
                record = tried(self.bench, asked.number, asked.settings, _best_offer(records), _say)
                _say(f"{'':9}{ended(record)}")
            if not asked.number and record.failed:
                raise LoadError(f"the default itself cannot be measured: {record.failed}")
            self.study.tell(asked, record)
            records.append(record)

    def _compare(self) -> Beside | None:
        """None where the default is the best, or nothing is good."""
        records = self.study.records()
        best = leading(records)
        if not best.number or not best.goodput:
            return None
        _say(f"the best found, side by side with the default: {described(self.space.changed(best.settings))}")
        return compared(self.bench, records[0], best, self._rounds(records, self.ends - time.monotonic()), _say)

    def _time_for_another(self, records: list[Record]) -> bool:
        seconds = self.bench.options.seconds
        took = [each.seconds for each in records[1:] if each.same_as is None and each.offers][-_LATELY:]
        expected: float = statistics.median(
            took or [records[0].start_s + STOP_S + (1 + SHORT) * seconds + 2 * OVERHEAD_S]
        )
        better = leading(records).number > 0
        kept_back = self._rounds(records, _TO_COMPARE * self.budget_s if better else 0.0)
        return time.monotonic() + expected + kept_back.seconds <= self.ends

    def _rounds(self, records: list[Record], left_s: float) -> Rounds:
        start_s = statistics.median([each.start_s for each in records if each.start_s][-_LATELY:] or [0.0])
        rates = 2 if leading(records).best.rate == records[0].best.rate else 3
        return rounds_of(start_s, self.bench.options.seconds, rates, left_s)

    def _report(self, beside: Beside | None, *, cut: bool = False) -> Result:
        result = Result(self.plan, self.space, self.study.records(), self.study.importances(), beside, cut)
        config = self.out / TUNED
        config.unlink(missing_ok=True)
        if result.changed and result.best.goodput:
            written(self.bench.original, result.changed, config)
        write_report(result, self.out)
        _say(result.sentence)
        if config.exists():
            _say(f"{_near(config)} differs in {described(result.changed)}")
        if result.better:
            _say(f"next: make serve CONFIG={_near(config)}")
        _say(f"report: {_near(self.out / 'tune.html')}")
        return result

    def _leave(self, settings: Settings) -> None:
        """Make the engine of these settings the deployment's; one that was built before is there at once."""
        config = self.bench.folder / "left.yaml"
        with suppress(ConchError):
            written(self.bench.original, self.space.changed(settings), config)
            self.bench.use_engine(settings, config)


def described(changed: Settings) -> str:
    """Settings in words."""
    return ", ".join(f"{field}: {value}" for field, value in changed.items()) or "the default"


def ended(record: Record) -> str:
    """A trial's end in words."""
    if record.failed:
        return f"failed: {record.failed}"
    return f"{record.goodput:.2f} good answers/s{', given up after a look' if record.hopeless else ''}"


def _best_offer(records: list[Record]) -> Offer | None:
    return leading(records).best if records else None


def _say(text: str) -> None:
    print(text, flush=True)


def _near(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
