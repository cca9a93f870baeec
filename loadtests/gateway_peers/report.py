"""Rounds of a gateway as one row, and the rows as a table."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.table import Table

from loadtests.gateway_peers.client import Seen

Row = dict[str, Any]


@dataclass(frozen=True)
class Round:
    """What one round saw of a gateway, at both of its ends."""

    seen: Seen
    gateway_cpu_s: float
    upstream_cpu_s: float
    memory_mib: float  # of the gateway's processes


def row(gateway: str, answer: str, clients: int, rounds: Sequence[Round]) -> Row:
    """Medians over the rounds; errors are added up."""
    errors: Counter[str] = Counter()
    for each in rounds:
        errors.update(each.seen.errors)
    whole = [each for each in rounds if each.seen.requests]
    made: Row = {"answer": answer, "clients": clients, "gateway": gateway}
    if whole:
        speeds = [each.seen.requests / each.seen.seconds for each in whole]
        made |= {
            "requests_per_s": round(median(speeds), 1),
            "latency_ms": _median(each.seen.latency_ms for each in whole),
            "first_ms": _median(each.seen.first_ms for each in whole),
            "events_per_answer": median(each.seen.events_per_answer for each in whole),
            "gateway_cpu_ms": round(median(1000 * each.gateway_cpu_s / each.seen.requests for each in whole), 3),
            "upstream_cpu_ms": round(median(1000 * each.upstream_cpu_s / each.seen.requests for each in whole), 3),
            "gateway_cores": round(median(each.gateway_cpu_s / each.seen.seconds for each in whole), 2),
            "client_cores": round(median(each.seen.cpu_s / each.seen.seconds for each in whole), 2),
            "memory_mib": round(max(each.memory_mib for each in whole), 1),
            "rounds_requests_per_s": [round(each, 1) for each in speeds],
        }
    return made | {"errors": dict(errors)}


def put(rows: list[Row], new: Row) -> None:
    """In the place of the row that it continues, or as the last one."""
    for number, old in enumerate(rows):
        if _key(old) == _key(new):
            rows[number] = new
            return
    rows.append(new)


def failed(rows: Iterable[Row]) -> bool:
    """Whether a row has errors, or nothing but them."""
    return any(each["errors"] or "requests_per_s" not in each for each in rows)


def faults(rows: Iterable[Row]) -> list[str]:
    """What went wrong, a line for each kind of error."""
    told = []
    for each in filter(lambda row: failed([row]), rows):
        where = f"{each['gateway']}, {each['answer']}, {each['clients']} clients"
        told += [f"{where}: {count} × {what}" for what, count in each["errors"].items()] or [f"{where}: nothing came"]
    return told


def table(rows: Sequence[Row]) -> Table:
    """The rows for people; one with errors is red, and tells their number instead of what it measured."""
    shown = Table(title="medians of the rounds; CPU is ms a request", title_justify="left")
    shown.add_column("clients", justify="right")
    shown.add_column("answer")
    shown.add_column("gateway")
    for column in ("req/s", "p50 ms", "p99 ms", "first ms", "CPU", "upstream", "client", "MiB"):
        shown.add_column(column, justify="right")
    for each in rows:
        bad = failed([each])
        figures = [f"{sum(each['errors'].values())} errors"] if bad else _figures(each)
        shown.add_row(str(each["clients"]), each["answer"], each["gateway"], *figures, style="red" if bad else "")
    return shown


def _figures(row: Row) -> list[str]:
    is_gateway = bool(row["memory_mib"])  # the upstream itself is none
    return [
        f"{row['requests_per_s']:,.0f}",
        f"{row['latency_ms']['p50']:.2f}",
        f"{row['latency_ms']['p99']:.2f}",
        f"{row['first_ms']['p50']:.2f}",
        f"{row['gateway_cpu_ms']:.2f}" if is_gateway else "",
        f"{row['upstream_cpu_ms']:.3f}",
        f"{row['client_cores']:.0%}",
        f"{row['memory_mib']:.0f}" if is_gateway else "",
    ]


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("answer", "clients", "gateway"))


def _median(quantiles: Iterable[Mapping[str, float]]) -> dict[str, float]:
    rounds = list(quantiles)
    return {name: round(median(each[name] for each in rounds), 2) for name in rounds[0]}
