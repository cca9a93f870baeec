"""Several nodes' reports beside each other: what must be alike on all of them, and what failed on any."""

import json
from collections.abc import Iterator
from pathlib import Path

from contract.errors import ConchError
from deploy.doctor.node import Report
from deploy.doctor.result import Result


def read(path: Path) -> Report:
    """A report that ``--json`` wrote.

    Raises:
        ConchError: it cannot be read, or is none.
    """
    try:
        return Report.load(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConchError(f"{path}: {error.strerror}", fix="Give files that --json wrote") from None
    except (ValueError, KeyError, TypeError):
        raise ConchError(f"{path} is no report of the doctor", fix="Give files that --json wrote") from None


def compare(reports: list[Report]) -> list[Result]:
    """One result for each thing that must be alike, then what is not well on single nodes."""
    return [*_names(reports), *_alike(reports), *_unwell(reports)]


def _names(reports: list[Report]) -> Iterator[Result]:
    names = [report.node for report in reports]
    if len(set(names)) < len(names):
        twice = ", ".join(sorted({name for name in names if names.count(name) > 1}))
        yield Result(
            "nodes", "fail", f"{twice}: more than one report", "give one report of each node, and each node a name"
        )
    else:
        yield Result("nodes", "ok", ", ".join(names))


def _alike(reports: list[Report]) -> Iterator[Result]:
    told = [{name: value for result in report.results for name, value in result.same.items()} for report in reports]
    for name in dict.fromkeys(name for each in told for name in each):
        by_value: dict[str, list[str]] = {}
        for report, each in zip(reports, told, strict=True):
            by_value.setdefault(each.get(name, "none"), []).append(report.node)
        if len(by_value) == 1:
            yield Result(name, "ok", next(iter(by_value)))
        else:
            seen = "; ".join(f"{value} on {', '.join(nodes)}" for value, nodes in by_value.items())
            yield Result(name, "fail", seen, "make it the same on every node")


def _unwell(reports: list[Report]) -> Iterator[Result]:
    for report in reports:
        for result in report.results:
            if result.status in ("warn", "fail"):
                yield Result(f"{report.node}: {result.check}", result.status, result.seen, result.todo)
