"""The search for the highest rate that a server holds: bracket it by doubling, then bisect. Nothing but arithmetic.

The state is the list of rates tried and whether each held, so a search can be resumed from its own record.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Tried:
    """One rate and its verdict."""

    rate: float
    held: bool


@dataclass(frozen=True)
class Bracket:
    """Between these is the answer: the highest rate that held, and the lowest above it that did not."""

    low: float | None
    high: float | None

    @property
    def ratio(self) -> float:
        """How wide it still is."""
        return self.high / self.low if self.low and self.high else math.inf


def bracket(tried: Iterable[Tried]) -> Bracket:
    """What the trials so far say; where they contradict each other, the failure at the lower rate is believed."""
    trials = list(tried)
    high = min((each.rate for each in trials if not each.held), default=None)
    held = [each.rate for each in trials if each.held and (high is None or each.rate < high)]
    return Bracket(max(held, default=None), high)


def next_rate(tried: Iterable[Tried], start: float, precision: float, lowest: float, highest: float) -> float | None:
    """The rate to try next; None when the answer is known as closely as asked, or lies beyond the bounds.

    Args:
        precision: how much wider than 1 the bracket's ratio may stay.
    """
    now = bracket(tried)
    if now.low is None and now.high is None:
        return start
    if now.low is None:
        assert now.high is not None
        return now.high / 2 if now.high / 2 >= lowest else None
    if now.high is None:
        return now.low * 2 if now.low * 2 <= highest else None
    return math.sqrt(now.low * now.high) if now.ratio > 1 + precision else None
