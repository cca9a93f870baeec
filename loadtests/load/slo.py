"""Service level objectives: ``ttft<500ms,tpot<60ms,e2e<10s``, and what part of the load met them."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.load import metrics
from loadtests.load.fault import LoadError
from loadtests.load.rows import Outcome, Row

_OF = {"ttft": metrics.ttft, "tpot": metrics.tpot, "e2e": metrics.e2e}
_ONE = re.compile(r"(?P<name>\w+)\s*<\s*(?P<limit>\d+(?:\.\d+)?)\s*(?P<unit>ms|s)?")


@dataclass(frozen=True)
class Objective:
    """One limit, in seconds."""

    name: str
    limit_s: float

    def value(self, row: Row) -> float:
        """What a request measured; infinite when it got no whole answer, 0 where there is nothing to measure."""
        if row.failed:
            return math.inf
        value = _OF[self.name](row)
        return 0.0 if value is None else value

    def met(self, row: Row) -> bool:
        """Whether a request kept within it."""
        return self.value(row) < self.limit_s

    def __str__(self) -> str:
        limit = f"{1000 * self.limit_s:g} ms" if self.limit_s < 1 else f"{self.limit_s:g} s"
        return f"{self.name.upper()} < {limit}"


def objectives(text: str) -> tuple[Objective, ...]:
    """Read ``--slo``; milliseconds where no unit is given.

    Raises:
        LoadError: naming the option.
    """
    read = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _ONE.fullmatch(part)
        if not found or found["name"] not in _OF:
            raise LoadError(f"--slo: {part!r} is no objective", fix="Use ttft<500ms, tpot<60ms, e2e<10s")
        read.append(Objective(found["name"], float(found["limit"]) / (1 if found["unit"] == "s" else 1000)))
    return tuple(read)


@dataclass(frozen=True)
class Verdict:
    """How the load fared against one objective."""

    objective: str
    measured_s: float | None  # at the percentile; None: that request never got there
    met: bool


def judged(rows: Sequence[Row], wanted: Sequence[Objective], percentile: float) -> list[Verdict]:
    """Each objective at its percentile, over every request but those that the client cancelled.

    A request that failed is one that was slower than any limit.
    """
    counted = [row for row in rows if row.outcome is not Outcome.CANCELLED]
    verdicts = []
    for each in wanted:
        at = metrics.percentile([each.value(row) for row in counted], percentile) if counted else math.inf
        verdicts.append(Verdict(str(each), None if math.isinf(at) else at, at < each.limit_s))
    return verdicts


def good(row: Row, wanted: Sequence[Objective]) -> bool:
    """Whether a request counts as goodput: a whole answer within every objective."""
    return row.answered and all(each.met(row) for each in wanted)
