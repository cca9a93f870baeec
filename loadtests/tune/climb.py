"""What a setting carries: good answers a second, at the best of the rates that it is offered.

**Goodput** is an offered rate times the share of its requests that were answered within every objective. It rises with
the rate until the server is full, and falls from there: so a setting's goodput is the highest over the rates, as
DistServe defines it (the rate that is held with so many percent of the requests within their objectives), without the
cliff at the percentile. vLLM's ``auto_tune`` looks for the same from above, SGLang's and aiperf's sweeps along a grid
of rates.

A trial is short, so what makes it noisy is kept out of it: the schedule and the questions of a rate are the same for
every setting (one seed), and the share of requests is counted, not the requests of a short window. As goodput is never
above the offered rate, only rates above the best goodput so far can make a better setting known: a trial begins where
the best one was at its best, with a short look that warms the server too, and is over when that is hopeless; then it
climbs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from loadtests.load.search import Tried, next_rate

STEP = 1.15  # between two rates of a climb
_PRECISION = 0.1  # to which the default's rate is known: what it holds must not be told too low
HOPE = 0.7  # of the best goodput; what has less of it in a short look is given up
HIGHEST = 10_000.0


@dataclass(frozen=True)
class Offer:
    """What became of a rate."""

    rate: float  # requests/s
    share: float  # of them, answered within every objective
    held: bool  # as large a share as is asked for
    doubts: list[str] = field(default_factory=list)  # why the client, not the server, was measured
    latencies: dict[str, dict[str, float]] = field(default_factory=dict)  # of the load test's summary
    output_tokens_per_s: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)

    @property
    def goodput(self) -> float:
        """Good answers a second; 0 where nothing of the server was measured."""
        return 0.0 if self.doubts else self.rate * self.share

    @property
    def crowd(self) -> int:
        """Requests in flight, by Little's law."""
        return max(1, round(self.rate * self.latencies.get("e2e_ms", {}).get("mean", 0.0) / 1000))


def offer_of(rate: float, percentile: float, summary: dict[str, Any]) -> Offer:
    """From a load test's summary. ``percentile``: of the requests that must be good for a rate to be held."""
    share, valid = summary["goodput"]["share"], summary["valid"]
    return Offer(
        rate,
        share,
        valid and 100 * share >= percentile,
        summary["invalid_because"],
        {name: summary["latencies"][name] for name in ("ttft_ms", "tpot_ms", "e2e_ms") if name in summary["latencies"]},
        summary["throughput"]["output_tokens_per_s"],
        {error["outcome"]: error["count"] for error in summary["errors"]},
    )


def best_of(offers: list[Offer]) -> Offer:
    """Where a setting was at its best."""
    return max(offers, key=lambda each: each.goodput)


Ask = Callable[[float, bool], Offer]  # a rate, and whether a short look is enough


def found(ask: Ask, start: float, lowest: float) -> Iterator[Offer]:
    """The default's rates: doubled and halved until what it holds is known, from ``lowest`` on."""
    yield ask(start, True)
    tried: list[Tried] = []
    while (rate := next_rate(tried, start, _PRECISION, lowest, HIGHEST)) is not None:
        offered = ask(rate, all(each.held for each in tried))  # what only leads upwards may be short
        tried.append(Tried(rate, offered.held))
        yield offered


def climbed(ask: Ask, best: Offer) -> Iterator[Offer]:
    """Another setting's rates, from where the best one was at its best. Only one of them: it was hopeless."""
    look = ask(best.rate, True)
    yield look
    if hopeless(look, best):
        return
    rate, held = best.rate, True
    while held and rate < HIGHEST:
        rate *= STEP
        offered = ask(rate, False)
        held = offered.held
        yield offered


def hopeless(look: Offer, best: Offer) -> bool:
    """Whether a first look says enough; a look at the client's limit says nothing."""
    return not look.doubts and look.goodput <= HOPE * best.goodput
