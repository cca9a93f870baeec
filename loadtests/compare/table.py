"""The cells as a table: a row for each engine and way, medians over the rounds, each beside the engine alone."""

import statistics
from collections.abc import Sequence
from typing import Any

from loadtests.compare.effort import ALONE, BURST, ONCE
from loadtests.compare.record import Cell


def rows(comparison_cells: dict[tuple[str, str], list[Cell]]) -> list[dict[str, Any]]:
    """Every row; what is missing in it is in its ``reasons``.

    Args:
        comparison_cells: by entrant and way, in the table's order.
    """
    made = [_row(entrant, way, cells) for (entrant, way), cells in comparison_cells.items()]
    alone = {row["engine"]: row for row in made if row["way"] == ALONE}
    for row in made:
        base = alone[row["engine"]]["bursts"] if row["engine"] in alone else {}
        for streams, figures in row["bursts"].items():
            if row["way"] != ALONE and streams in base:
                figures["times_alone"] = round(figures["tokens_per_s"] / base[streams]["tokens_per_s"], 3)
    return made


def _row(entrant: str, way: str, cells: Sequence[Cell]) -> dict[str, Any]:
    found: dict[str, list[dict[str, Any]]] = {}
    reasons: dict[str, str] = {}
    for cell in cells:
        if cell.result is not None:
            found.setdefault(cell.measure, []).append(cell.result)
        elif cell.measure not in reasons:
            reasons[cell.measure] = cell.absent or cell.failed
    start = found.get("start", [])
    return {
        "engine": entrant,
        "way": way,
        "command": start[-1]["command"] if start else "",
        "rounds": max((len(results) for results in found.values()), default=0),
        "start_s": _median([each["seconds"] for each in start]),
        "bursts": {
            int(measure.partition("-")[2]): _burst(results)
            for measure, results in found.items()
            if measure.startswith(BURST)
        },
        "ttft_ms": _by_length(found.get("ttft", [])),
        **{name: found[name][-1] if name in found else None for name in ONCE},
        "memory": {
            name: _median([each[name] for each in found["memory"] if name in each])
            for name in ("host_mib", "gpu_mib")
            if any(name in each for each in found["memory"])
        }
        if "memory" in found
        else None,
        "reasons": {measure: reason for measure, reason in reasons.items() if measure not in found},
    }


def _burst(results: list[dict[str, Any]]) -> dict[str, Any]:
    speeds = [each["tokens_per_s"] for each in results]
    return {
        "tokens_per_s": _median(speeds),
        "rounds_tokens_per_s": speeds,
        **{
            f"{name}_{share}_ms": _median([each[f"{name}_ms"][share] for each in results])
            for name in ("ttft", "itl")
            for share in ("p50", "p95")
        },
        "tokens_per_response": _median([each["tokens_per_response"] for each in results]),
    }


def _by_length(results: list[dict[str, Any]]) -> dict[int, float | None]:
    lengths = sorted({int(length) for each in results for length in each["by_length"]})
    return {
        length: _median([at["ms"] for each in results for own, at in each["by_length"].items() if int(own) == length])
        for length in lengths
    }


def _median(values: list[float]) -> float | None:
    return round(statistics.median(values), 3) if values else None
