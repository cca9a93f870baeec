"""A run against a saved one: what got worse, and by how much."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.load.fault import LoadError

# (name, where in report.json, whether more is better)
_COMPARED = (
    ("TTFT p50", ("latencies", "ttft_ms", "p50"), False),
    ("TTFT p95", ("latencies", "ttft_ms", "p95"), False),
    ("TPOT p50", ("latencies", "tpot_ms", "p50"), False),
    ("TPOT p95", ("latencies", "tpot_ms", "p95"), False),
    ("ITL p50", ("latencies", "itl_ms", "p50"), False),
    ("E2E p50", ("latencies", "e2e_ms", "p50"), False),
    ("E2E p95", ("latencies", "e2e_ms", "p95"), False),
    ("output tokens/s", ("throughput", "output_tokens_per_s"), True),
    ("goodput", ("goodput", "share"), True),
)


@dataclass(frozen=True)
class Change:
    """One figure, then and now."""

    name: str
    before: float
    now: float
    worse_percent: float  # below 0: better
    regression: bool


def read_baseline(path: Path) -> dict[str, Any]:
    """A saved report.json.

    Raises:
        LoadError: it is none.
    """
    try:
        report: dict[str, Any] = json.loads(path.read_text())
        _ = report["summary"]["latencies"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LoadError(f"--baseline: {path} is no report.json of a load test ({error!r})") from None
    return report


def compared(baseline: dict[str, Any], summary: dict[str, Any], tolerance: float) -> list[Change]:
    """Every figure that both have."""
    changes = []
    for name, where, more_is_better in _COMPARED:
        before, now = _at(baseline["summary"], where), _at(summary, where)
        if before is None or now is None or before <= 0:
            continue
        worse = 100 * ((before - now) if more_is_better else (now - before)) / before
        changes.append(Change(name, before, now, round(worse, 1), worse > tolerance))
    return changes


def _at(tree: dict[str, Any], where: tuple[str, ...]) -> float | None:
    value: Any = tree
    for key in where:
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return float(value)
