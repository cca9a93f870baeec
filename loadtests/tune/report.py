"""What a search found, as one sentence, as tune.json and as a page."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from contract.engines.knobs import Settings
from loadtests.command import write
from loadtests.load.charts import Line, chart
from loadtests.load.options import Plan
from loadtests.load.report import rendered
from loadtests.load.surroundings import surroundings
from loadtests.tune.beside import Beside
from loadtests.tune.climb import Offer
from loadtests.tune.space import Space
from loadtests.tune.study import Record, leading

_SAME = 1.05  # a ratio below which two are alike


@dataclass(frozen=True)
class Result:
    """All that is known when a search ends, or is cut."""

    plan: Plan
    space: Space
    records: list[Record]  # the default's first
    importances: dict[str, float]
    beside: Beside | None  # none: not compared yet, or nothing to compare
    cut: bool = False  # before its end

    @property
    def default(self) -> Record:
        """Trial 0."""
        return self.records[0]

    @property
    def best(self) -> Record:
        """Of all of them."""
        return leading(self.records)

    @property
    def changed(self) -> Settings:
        """What the best one has otherwise than the default."""
        return self.space.changed(self.best.settings)

    @property
    def better(self) -> bool:
        """Whether a fresh run says that it is worth changing anything."""
        return self.beside is not None and self.beside.tuned.goodput > 0 and self.beside.ratio >= _SAME

    @property
    def sentence(self) -> str:
        """The answer in words."""
        limits = ", ".join(map(str, self.plan.slo))
        settings = len([each for each in self.records if each.same_as is None])
        if not self.best.goodput:
            return f"No setting meets {limits} ({settings} tried): {self._nearest()}"
        before, best = self.default.goodput, self.best.goodput
        if self.best is self.default:
            return (
                f"The default is within 5 % of the best found: it carries {before:.2f} good answers/s ({limits}), "
                f"and no other setting more ({settings} tried)."
            )
        if self.beside is None or not self.beside.tuned.goodput + self.beside.default.goodput:
            ratio = f"{best / before:.2f} × the goodput of the default" if before else "the default has none"
            return f"In the search alone, not side by side: {best:.2f} good answers/s, {ratio} ({limits})."
        default, tuned = self.beside.default, self.beside.tuned
        figures = (
            f"{tuned.goodput:.2f} good answers/s of {tuned.rate:.2f} requests/s, against {default.goodput:.2f} of "
            f"{default.rate:.2f}; medians of servers started in turn ({limits})"
        )
        if not self.better:
            return f"The default is within 5 % of the best found: {figures}."
        if math.isinf(self.beside.ratio):
            return f"The default has no goodput, the tuned one has: {figures}."
        return f"{self.beside.ratio:.2f} × the goodput of the default: {figures}."

    def _nearest(self) -> str:
        """What the default measured where it was offered least."""
        offer = min(self.default.offers, key=lambda each: each.rate)
        percentile = "p90"
        said = [
            f"{each.name.upper()} {percentile} {offer.latencies[f'{each.name}_ms'][percentile]:.0f} ms"
            for each in self.plan.slo
            if f"{each.name}_ms" in offer.latencies
        ]
        return f"at {offer.rate:.2f} requests/s the default has {', '.join(said) or 'no whole answer'}."


def frontier(records: Sequence[Record], latency: str) -> list[tuple[float, float]]:
    """(tokens/s, p90 in ms) of the offers that no other beats in both, in the order of their throughput."""
    points = sorted(_points(records, latency), key=lambda point: (-point[0], point[1]))
    kept: list[tuple[float, float]] = []
    for point in points:
        if not kept or point[1] < kept[-1][1]:
            kept.append(point)
    return kept[::-1]


def write_report(result: Result, out: Path) -> None:
    """tune.json and tune.html."""
    report = {
        "format": 1,
        "sentence": result.sentence,
        "cut": result.cut,
        "slo": [str(each) for each in result.plan.slo],
        "changed": {
            field: {"default": result.space.default[field], "tuned": value} for field, value in result.changed.items()
        },
        "beside": result.beside.told() if result.beside else None,
        "importance": {field: round(share, 4) for field, share in result.importances.items()},
        "trials": [_trial(result.space, each) for each in result.records],
        "left_out": list(result.space.left_out),
        "surroundings": surroundings(result.plan.deployment),
    }
    write(out / "tune.json", report)
    page = {
        "report": report,
        "knobs": {knob.field: knob for knob in result.space.knobs},
        "charts": _charts(result),
        "surroundings": json.dumps(report["surroundings"], indent=1),
    }
    title = f"Tuning: {result.plan.model}"
    (out / "tune.html").write_text(rendered("tune.html.j2", Path(__file__).parent, title=title, **page))


def _trial(space: Space, record: Record) -> dict[str, Any]:
    ended = "failed" if record.failed else "given up" if record.hopeless else "measured"
    return {
        "number": record.number,
        "changed": space.changed(record.settings),
        "ended": ended,
        "why": record.failed,
        "same_as": record.same_as,
        "goodput_per_s": round(record.goodput, 3),
        "seconds": round(record.seconds, 1),
        "offers": [asdict(offer) for offer in record.offers],
    }


def _points(records: Sequence[Record], latency: str) -> list[tuple[float, float]]:
    return [
        (offer.output_tokens_per_s, offer.latencies[latency]["p90"])
        for record in records
        for offer in record.offers
        if _shown(offer, latency)
    ]


def _shown(offer: Offer, latency: str) -> bool:
    return not offer.doubts and latency in offer.latencies


def _charts(result: Result) -> list[str]:
    drawn = []
    for each in result.plan.slo:
        latency = f"{each.name}_ms"
        lines = [
            Line("every offer", _points(result.records, latency), "dots"),
            Line("the default's", _points(result.records[:1], latency), "dots"),
            Line("frontier", frontier(result.records, latency)),
        ]
        title = f"{each.name.upper()} p90 against throughput"
        drawn.append(chart(title, lines, x="tokens/s", y="ms", limits=[1000 * each.limit_s], y_max=4000 * each.limit_s))
    goodputs = [(record.number, record.goodput) for record in result.records if not record.failed]
    drawn.append(chart("Goodput by trial", [Line("", goodputs, "dots")], x="trial", y="good answers/s"))
    return [each for each in drawn if each]
