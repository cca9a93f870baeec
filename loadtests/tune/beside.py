"""The default and the tuned deployment side by side, on fresh servers in turn: what a claim rests on.

The search's own figure of its best setting is the luckiest of many. Here each setting is served and loaded several
times, in alternating order, and the medians are compared. The default is offered its own best rate and the tuned one's
too, so that a step between two rates is no advantage; the tuned one is offered its own alone.
"""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from contract.engines.knobs import Settings
from loadtests.tune.climb import Offer
from loadtests.tune.study import Record
from loadtests.tune.trial import OVERHEAD_S, STOP_S, Bench, line


@dataclass(frozen=True)
class Rounds:
    """How often each is served, and how often each rate is offered then."""

    count: int
    samples: int
    seconds: float  # that all of it takes, about


def rounds_of(start_s: float, step_s: float, rates: int, left_s: float) -> Rounds:
    """As many rounds, up to three, as the time allows; where servers start slowly, more samples of fewer.

    Args:
        start_s: until a server is ready.
        step_s: of an offer.
        rates: that are offered in a round, to both together.
        left_s: that it may take; one round is made even where it takes more.
    """
    planned = [
        Rounds(count, samples, count * (2 * (start_s + STOP_S) + rates * samples * (step_s + OVERHEAD_S)))
        for count, samples in ((3, 1), (2, 2), (2, 1), (1, 3), (1, 2), (1, 1))
    ]
    return next((each for each in planned if each.seconds <= left_s), planned[-1])


@dataclass(frozen=True)
class Side:
    """One of the two: every offer, and the best median over its rates."""

    offers: list[Offer]

    @property
    def goodput(self) -> float:
        """Good answers a second."""
        return statistics.median(self.at(self.rate))

    @property
    def rate(self) -> float:
        """Where it is at its best, requests/s."""
        return max({each.rate for each in self.offers}, key=lambda rate: statistics.median(self.at(rate)))

    def at(self, rate: float) -> list[float]:
        """Goodputs at a rate, of the offers that may be believed."""
        return [each.goodput for each in self.offers if each.rate == rate and not each.doubts] or [0.0]


@dataclass(frozen=True)
class Beside:
    """The comparison."""

    default: Side
    tuned: Side

    @property
    def ratio(self) -> float:
        """The tuned one's goodput over the default's; infinite where the default has none."""
        return self.tuned.goodput / self.default.goodput if self.default.goodput else float("inf")

    def told(self) -> dict[str, Any]:
        """As tune.json keeps it."""
        sides = {"default": self.default, "tuned": self.tuned}
        return {
            name: {"goodput_per_s": round(side.goodput, 3), "offers": [asdict(each) for each in side.offers]}
            for name, side in sides.items()
        }


def compared(bench: Bench, default: Record, tuned: Record, rounds: Rounds, say: Callable[[str], None]) -> Beside:
    """Serve them in turn.

    Raises:
        ConchError: one of them does not start any more.
    """
    own = tuned.best.rate
    turns: list[tuple[str, Settings, list[float]]] = [
        # The one that both are offered comes first for both: a fresh server's first load counts a later part of it.
        ("default", default.settings, list(dict.fromkeys((own, default.best.rate)))),
        ("tuned", tuned.settings, [own]),
    ]
    sides: dict[str, list[Offer]] = {"default": [], "tuned": []}
    for number in range(rounds.count):
        for name, settings, rates in turns if number % 2 == 0 else turns[::-1]:
            folder = bench.folder / f"beside-{number}-{name}"
            say(f"{name}, round {number + 1} of {rounds.count}:")
            with bench.serving(settings, folder) as ask:
                for rate in rates * rounds.samples:
                    sides[name].append(ask(rate, False))
                    say(line(sides[name][-1]))
    return Beside(Side(sides["default"]), Side(sides["tuned"]))
