"""The report: one HTML file that needs nothing else, the same as JSON, and whether the run passed."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from loadtests.command import write
from loadtests.load import metrics, scrape
from loadtests.load.baseline import compared, read_baseline
from loadtests.load.canary import Sighting
from loadtests.load.charts import Line, chart, ecdf
from loadtests.load.options import Plan
from loadtests.load.rows import Row
from loadtests.load.summary import Summary, counted, in_flight, sentence
from loadtests.load.surroundings import surroundings

ROW_LABELS = (
    ("ttft_ms", "TTFT, ms"),
    ("itl_ms", "ITL (gap between chunks), ms"),
    ("tpot_ms", "TPOT, ms"),
    ("e2e_ms", "E2E, ms"),
    ("ttfb_ms", "TTFB, ms"),
    ("queued_ms", "queue time, ms"),
    ("tokens_per_s_user", "tokens/s of a user"),
    ("tokens_per_chunk", "tokens a chunk"),
    ("prompt_tokens", "prompt tokens"),
    ("output_tokens", "output tokens"),
)
_BIN_S = 1.0


@dataclass(frozen=True)
class Result:
    """A finished run."""

    plan: Plan
    rows: Sequence[Row]
    summary: Summary
    readings: list[scrape.Reading]
    sightings: list[Sighting]
    cpu: dict[int, list[tuple[float, float]]]


def write_report(result: Result, folder: Path) -> dict[str, Any]:
    """Write report.html and report.json; returns what the JSON says."""
    plan, summary = result.plan, result.summary
    report: dict[str, Any] = {
        "format": 1,
        "sentence": sentence(summary, plan),
        "failures": [],
        "summary": asdict(summary),
        "canary": _canary(result.sightings),
        "server": _server(result),
        "cpu": {str(worker): samples for worker, samples in sorted(result.cpu.items())},
        "surroundings": surroundings(plan.deployment),
        "baseline": None,
    }
    if plan.baseline:
        saved = read_baseline(plan.baseline)
        changes = compared(saved, report["summary"], plan.tolerance)
        report["baseline"] = {
            "file": str(plan.baseline),
            "when": saved["surroundings"]["when"],
            "tolerance": plan.tolerance,
            "changes": [asdict(change) for change in changes],
        }
    report["failures"] = _failures(report, plan)
    write(folder / "report.json", report)
    (folder / "report.html").write_text(_html(result, report))
    return report


def time_charts(rows: Sequence[Row], plan: Plan, window: tuple[float, float]) -> list[str]:
    """The client's curves over the run."""
    span = (0.0, plan.seconds)
    limits = {each.name: 1000 * each.limit_s for each in plan.slo}
    drawn = []
    for name, label, of in (
        ("ttft", "TTFT", metrics.ttft),
        ("tpot", "TPOT", metrics.tpot),
        ("e2e", "E2E", metrics.e2e),
    ):
        points = [(row.intended, 1000 * value) for row in rows if (value := of(row)) is not None]
        marks = [limits[name]] if name in limits else []
        title = f"{label} of each request"
        drawn.append(chart(title, [Line("", points, "dots")], x="s", y="ms", span=span, window=window, limits=marks))
    drawn.append(chart("Output tokens", [Line("", tokens_per_s(rows))], x="s", y="tokens/s", span=span, window=window))
    open_ = [Line("", [(at, float(level)) for at, level in in_flight(rows)], "steps")]
    drawn.append(chart("Requests in flight", open_, x="s", y="", span=span, window=window))
    return [each for each in drawn if each]


def tokens_per_s(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """Tokens that arrived in each second of the run."""
    bins: dict[int, float] = {}
    for row in rows:
        for at, tokens in metrics.arrivals(row):
            bins[int(at // _BIN_S)] = bins.get(int(at // _BIN_S), 0.0) + tokens
    if not bins:
        return []
    return [((number + 0.5) * _BIN_S, bins.get(number, 0.0) / _BIN_S) for number in range(min(bins), max(bins) + 1)]


def _still_charts(inside: Sequence[Row]) -> list[str]:
    """Distributions, and what latency costs throughput."""
    figures = metrics.latencies_ms(inside)
    pace = {name: figures[name] for name in ("ITL", "TPOT") if figures[name]}
    speed = dict(tokens_per_s(inside))
    by_second: dict[float, list[float]] = {}
    for row in inside:
        if (value := metrics.tpot(row)) is not None:
            by_second.setdefault((int(row.ended // _BIN_S) + 0.5) * _BIN_S, []).append(1000 * value)
    against = [(speed[second], sum(values) / len(values)) for second, values in by_second.items() if second in speed]
    drawn = [
        chart("TTFT: share of requests", [Line("", ecdf(figures["TTFT"]), "steps")], x="ms", y="%", y_max=100),
        chart("E2E: share of requests", [Line("", ecdf(figures["E2E"]), "steps")], x="ms", y="%", y_max=100),
        chart(
            "ITL and TPOT: share of gaps, of requests",
            [Line(label, ecdf(values), "steps") for label, values in pace.items()],
            x="ms",
            y="%",
            y_max=100,
        ) if pace else "",
        chart("Throughput against latency, by second", [Line("", against, "dots")], x="tokens/s", y="TPOT, ms"),
    ]  # fmt: skip
    return [each for each in drawn if each]


def _server_charts(result: Result) -> list[str]:
    plan, summary = result.plan, result.summary
    drawn = []
    for series, points in scrape.plotted(result.readings):
        span = (0.0, plan.seconds)
        shown = [(at, value) for at, value in points if 0 <= at <= plan.seconds]
        drawn.append(chart(series.title, [Line("", shown)], x="s", y=series.unit, span=span, window=summary.window_s))
    return [each for each in drawn if each]


def _html(result: Result, report: dict[str, Any]) -> str:
    begins, ends = result.summary.window_s
    return rendered(
        "report.html.j2",
        title=f"Load test: {result.plan.target.model}",
        report=report,
        rows=ROW_LABELS,
        slo_percentile=result.plan.slo_percentile,
        charts=time_charts(result.rows, result.plan, (begins, ends))
        + _still_charts(counted(result.rows, begins, ends)),
        server_charts=_server_charts(result),
        surroundings=json.dumps(report["surroundings"], indent=1),
    )


def rendered(template: str, *folders: Path, **values: Any) -> str:
    """A page from a template of this folder, or of others that build on this one's."""
    return _templates(*folders).get_template(template).render(**values)


@cache
def _templates(*folders: Path) -> jinja2.Environment:
    return jinja2.Environment(loader=jinja2.FileSystemLoader([Path(__file__).parent, *folders]), autoescape=True)


def _canary(sightings: Sequence[Sighting]) -> dict[str, Any]:
    answered = [each for each in sightings if each.outcome == "complete"]
    different = [each for each in answered if not each.same]
    return {
        "asked": len(answered),
        "same": len(answered) - len(different),
        "without_answer": len(sightings) - len(answered),
        "different": [{name: getattr(each, name) for name in each.__struct_fields__} for each in different[:5]],
    }


def _server(result: Result) -> dict[str, dict[str, float]]:
    """Means and peaks of what the server said of itself in the window."""
    begins, ends = result.summary.window_s
    said = {}
    for series, points in scrape.plotted(result.readings):
        values = [value for at, value in points if begins <= at < ends]
        if values:
            said[series.name] = {"mean": round(sum(values) / len(values), 3), "max": round(max(values), 3)}
    return said


def _failures(report: dict[str, Any], plan: Plan) -> list[str]:
    """Why the exit code is not 0; a run that cannot be believed passes no gate."""
    failures = []
    if plan.fail_on and not report["summary"]["valid"]:
        failures.append(f"not valid, so nothing can pass: {'; '.join(report['summary']['invalid_because'])}")
    if "slo" in plan.fail_on:
        missed = [each["objective"] for each in report["summary"]["slo"] if not each["met"]]
        failures += [f"slo: {objective} is not met at p{plan.slo_percentile:g}" for objective in missed]
    if "regression" in plan.fail_on and report["baseline"]:
        failures += [
            f"regression: {change['name']} went from {change['before']:g} to {change['now']:g} "
            f"({change['worse_percent']:+g} %)"
            for change in report["baseline"]["changes"]
            if change["regression"]
        ]
    return failures
