"""compare.json and compare.html from what the record has by now; written anew after each cell."""

import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtests.command import head
from loadtests.compare.effort import ALONE
from loadtests.compare.entrants import Entrant, Excluded
from loadtests.compare.page import page
from loadtests.compare.record import Cell
from loadtests.compare.run import START, Comparison
from loadtests.compare.table import rows
from loadtests.gpu import gpus
from loadtests.load.surroundings import packages


def write(comparison: Comparison, excluded: list[Excluded], folder: Path, command: str, *, finished: bool) -> list[str]:
    """Both files; returns what they come to, a sentence an engine."""
    about, table = head(), rows(_cells(comparison))
    sentences = [said for each in comparison.entrants if (said := _sentence(each.name, table))]
    report: dict[str, Any] = {
        "format": 1,
        "when": about["when"],
        "command": command,
        "finished": finished,
        "machine": {**about["machine"], "gpu": gpus(), "python": platform.python_version(), "packages": packages()},
        "effort": asdict(comparison.effort),
        "engines": [_engine(each, comparison.entrants) for each in comparison.entrants],
        "excluded": [asdict(each) for each in excluded],
        "sentences": sentences,
        "rows": table,
        "missing": _missing(table),
        "faults": [
            {"engine": row["engine"], "way": row["way"], "fault": fault}
            for row in table
            for fault in (row["json"] or {}).get("faults", [])
        ],
    }
    _replace(folder / "compare.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    _replace(folder / "compare.html", page(report))
    return sentences


def _cells(comparison: Comparison) -> dict[tuple[str, str], list[Cell]]:
    """Every cell that this comparison wants and has, by entrant and way."""
    found: dict[tuple[str, str], list[Cell]] = {}
    for entrant in comparison.entrants:
        for way in comparison.ways(entrant):
            keys = [
                comparison.key(entrant, way, number, measure)
                for number in range(comparison.effort.rounds)
                for measure in (START, *comparison.measures(number))
            ]
            cells = (comparison.record.get(key) for key in keys)
            found[entrant.name, way] = [cell for cell in cells if cell is not None]
    return found


def _engine(entrant: Entrant, entrants: list[Entrant]) -> dict[str, Any]:
    runtime = entrant.spec.engine.runtime
    alike = [each for each in entrants if each.spec.engine.runtime == runtime]
    manifest = entrant.manifest
    return {
        "name": entrant.name,
        "label": runtime if len(alike) == 1 else entrant.name,
        "config": entrant.config,
        "runtime": runtime,
        "precision": entrant.spec.engine.precision if manifest else "",
        "version": manifest.version if manifest else "",
        "origin": manifest.origin.source if manifest and manifest.origin else "",
        "verified": manifest.measured.model_dump() if manifest and manifest.measured else None,
        "limits": entrant.spec.limits.model_dump(),
        "packages": entrant.versions,
    }


def _sentence(name: str, table: list[dict[str, Any]]) -> str:
    """How much of the engine alone is left in our ensemble, at the most streams that both were asked for."""
    ours = [row for row in table if row["engine"] == name and row["way"] != ALONE]
    shared = [streams for row in ours for streams, it in row["bursts"].items() if "times_alone" in it]
    if not shared:
        return ""
    streams = max(shared)
    parts = [
        f"our {row['way']} carries {row['bursts'][streams]['times_alone']:.2f}"
        for row in ours
        if "times_alone" in row["bursts"].get(streams, {})
    ]
    return f"{name}: at {streams} streams {' and '.join(parts)} of the engine alone."


def _missing(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Reasons, each once for an engine and a way, with the measures that lack for it."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for row in table:
        for measure, reason in row["reasons"].items():
            found.setdefault((row["engine"], row["way"], reason), []).append(measure)
    return [
        {"engine": engine, "way": way, "reason": reason, "measures": measures}
        for (engine, way, reason), measures in found.items()
    ]


def _replace(path: Path, text: str) -> None:
    """Never half a file, whenever it is looked at."""
    fresh = path.with_name(f".{path.name}")
    fresh.write_text(text)
    fresh.replace(path)
