"""What clients saw of a load, as figures."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from contract.errors import ServeError
from loadtests.lean import Timeline


def whole(lines: list[Timeline], way: str = "") -> list[Timeline]:
    """Answers that all came.

    Args:
        way: how they were asked for, for the message.

    Raises:
        ServeError: one did not.
    """
    failed = [each.error or "no token came" for each in lines if each.error or not each.deltas]
    if failed:
        raise ServeError(f"{way}{': ' if way else ''}{len(failed)} of {len(lines)} requests failed: {failed[0]}")
    return lines


def tokens(lines: Iterable[Timeline]) -> int:
    """All that came."""
    return sum(count for each in lines for _, count in each.deltas)


def tokens_per_response(lines: Sequence[Timeline]) -> float:
    """How coarse the streams are."""
    return round(tokens(lines) / sum(len(each.deltas) for each in lines), 2)


def speed(lines: Sequence[Timeline]) -> float:
    """Tokens a second, from the first request to the last token."""
    return tokens(lines) / (max(each.deltas[-1][0] for each in lines) - min(each.sent for each in lines))


def ttft(lines: Iterable[Timeline]) -> list[float]:
    """Of each answer, in seconds."""
    return [each.deltas[0][0] - each.sent for each in lines]


def gaps(lines: Iterable[Timeline]) -> Iterable[tuple[float, int]]:
    """(time between two responses of a stream, tokens that the second brought)."""
    for each in lines:
        for (before, _), (after, count) in zip(each.deltas, each.deltas[1:], strict=False):
            yield after - before, count


def itl(lines: Iterable[Timeline]) -> list[float]:
    """Times between tokens; a response's gap is shared among its tokens."""
    return [gap / count for gap, count in gaps(lines) if count for _ in range(count)]


def itl_and_gaps(lines: Sequence[Timeline]) -> dict[str, Any]:
    """The quantiles of times between tokens, and between responses."""
    return {"itl_ms": quantiles(itl(lines)), "gap_ms": quantiles([gap for gap, _ in gaps(lines)])}


def quantiles(values: list[float]) -> dict[str, float]:
    """p50, p95 and p99 in ms."""
    cuts = statistics.quantiles(values * 2 if len(values) == 1 else values, n=100, method="inclusive")
    return {f"p{q}": round(1000 * cuts[q - 1], 2) for q in (50, 95, 99)}


def in_window(lines: Iterable[Timeline], begins: float, ends: float) -> tuple[int, int]:
    """(tokens, responses) that arrived within a time."""
    counts = [count for each in lines for now, count in each.deltas if begins <= now < ends]
    return sum(counts), len(counts)
