"""The comparison as one HTML file that needs nothing else, in the manner of the load test's report."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from loadtests.compare.effort import ENSEMBLE
from loadtests.load.charts import Line, Points, chart
from loadtests.load.report import rendered

Row = dict[str, Any]


def page(report: dict[str, Any]) -> str:
    """All of it."""
    rows: list[Row] = report["rows"]
    return rendered(
        "compare.html.j2",
        Path(__file__).parent,
        title="Engines compared",
        report=report,
        streams=sorted({streams for row in rows for streams in row["bursts"]}),
        lengths=sorted({length for row in rows for length in row["ttft_ms"]}),
        gpu=any((row["memory"] or {}).get("gpu_mib") for row in rows),
        charts=_charts(rows, {each["name"]: each["label"] for each in report["engines"]}),
        surroundings=json.dumps(report["machine"], indent=1),
    )


def _charts(rows: list[Row], labels: dict[str, str]) -> list[tuple[str, list[str]]]:
    """Heading and charts: the engines beside each other, then each engine's ways."""
    ensembles = [(labels[row["engine"]], row) for row in rows if row["way"] == ENSEMBLE]
    groups = [("The engines beside each other, in our ensemble", ensembles)]
    groups += [
        (f"{label}: alone and in our ensemble", [(row["way"], row) for row in rows if row["engine"] == name])
        for name, label in labels.items()
    ]
    return [(title, drawn) for title, lines in groups if (drawn := [each for each in _group(lines) if each])]


def _group(rows: list[tuple[str, Row]]) -> Iterable[str]:
    def drawn(title: str, of: Callable[[Row], Points], x: str, y: str) -> str:
        lines = [Line(label, of(row)) for label, row in rows]  # one without points too: colours stay
        return chart(title, lines, x=x, y=y)

    yield drawn("Tokens/s", lambda row: [(at, it["tokens_per_s"]) for at, it in row["bursts"].items()], "streams", "")
    yield drawn("TTFT", lambda row: list(row["ttft_ms"].items()), "prompt tokens", "ms")
    yield drawn("TTFT p95 at a rate", lambda row: _steps(row, "rate", "ttft_p95_ms"), "requests/s", "ms")
    yield drawn("TPOT p95 by load", lambda row: _steps(row, "tokens_per_s", "tpot_p95_ms"), "tokens/s", "ms")


def _steps(row: Row, x: str, y: str) -> Points:
    """Of the search for a capacity; steps at which the client was the limit say nothing of the server."""
    steps = row["capacity"]["steps"] if row["capacity"] else []
    return sorted((step[x], step[y]) for step in steps if step["valid"] and step.get(y) is not None)
