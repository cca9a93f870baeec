"""A run's figures from its rows: exact percentiles over the window that counts, and whether they may be believed."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from loadtests.load import metrics
from loadtests.load.options import Plan
from loadtests.load.rows import Outcome, Row
from loadtests.load.slo import good, judged

_PER_REQUEST: dict[str, tuple[Callable[[Row], float | None], float]] = {
    "ttfb_ms": (metrics.ttfb, 1000),
    "ttft_ms": (metrics.ttft, 1000),
    "tpot_ms": (metrics.tpot, 1000),
    "e2e_ms": (metrics.e2e, 1000),
    "tokens_per_s_user": (metrics.tokens_per_s_user, 1),
    "tokens_per_chunk": (metrics.tokens_per_chunk, 1),
    "queued_ms": (lambda row: row.queued_s, 1000),
    "prompt_tokens": (lambda row: row.prompt_tokens or None, 1),
    "output_tokens": (lambda row: row.output_tokens or None, 1),
}
_SAMPLES = 3  # of each kind of error
_ACHIEVED = 0.98  # of the asked rate, else the client was too slow


@dataclass(frozen=True)
class Client:
    """What the client did beside asking."""

    begins: float  # of the wall clock: where the rows' times count from
    workers: int
    cpu: dict[int, list[tuple[float, float]]]  # worker -> (when, percent of a core)
    scheduled: int | None = None  # requests that the schedule has; None: a closed loop
    cut_short: str = ""  # why the run ended before its time


@dataclass(frozen=True)
class Summary:
    """What report.json says of the load."""

    valid: bool
    invalid_because: list[str]
    load: dict[str, Any]
    outcomes: dict[str, int]
    errors: list[dict[str, Any]]
    latencies: dict[str, dict[str, float]]
    throughput: dict[str, float]
    slo: list[dict[str, Any]]
    goodput: dict[str, float]
    in_flight: dict[str, float]
    window_s: tuple[float, float] = field(default=(0.0, 0.0))


def window(plan: Plan) -> tuple[float, float]:
    """The part of the run that counts."""
    return plan.warm_up, plan.seconds - plan.cool_down


def counted(rows: Iterable[Row], begins: float, ends: float) -> list[Row]:
    """The requests that were due in the window."""
    return [row for row in rows if begins <= row.intended < ends]


def summarize(rows: Sequence[Row], plan: Plan, client: Client) -> Summary:
    """All of it."""
    begins, ends = window(plan)
    length = ends - begins
    inside = counted(rows, begins, ends)
    lags = [1000 * metrics.lag(row) for row in rows] or [0.0]
    sent = sum(begins <= row.sent < ends for row in rows)
    arrived = sum(tokens for row in rows for at, tokens in metrics.arrivals(row) if begins <= at < ends)
    load = {
        "transport": plan.transport,
        "model": plan.target.model,
        "host": plan.target.host,
        "loop": "closed" if plan.closed else "open",
        "arrivals": None if plan.closed else plan.arrivals,
        "seed": plan.seed,
        "begins": client.begins,
        "seconds": plan.seconds,
        "workers": client.workers,
        "requests": len(rows),
        "scheduled": client.scheduled,
        "asked_per_s": round(len(inside) / length, 3),
        "sent_per_s": round(sent / length, 3),
        "lag_ms": {"p50": _rounded(metrics.percentile(lags, 50)), "p99": _rounded(metrics.percentile(lags, 99))},
        "cpu_percent": {
            str(worker): {
                "p50": _rounded(metrics.percentile(taken, 50)),
                "p95": _rounded(metrics.percentile(taken, 95)),
            }
            for worker, samples in sorted(client.cpu.items())
            if (taken := [percent for at, percent in samples if begins <= at < ends])
        },
    }
    reasons = _doubts(load, plan, client, len(inside), sent)
    verdicts = judged(inside, plan.slo, plan.slo_percentile)
    well = sum(good(row, plan.slo) for row in inside)
    owed = sum(row.outcome is not Outcome.CANCELLED for row in inside)
    return Summary(
        valid=not reasons,
        invalid_because=reasons,
        load=load,
        outcomes=dict(Counter(str(row.outcome) for row in inside)),
        errors=_errors(inside),
        latencies=_latencies(inside),
        throughput={
            "requests_per_s": round(sum(row.answered and begins <= row.ended < ends for row in rows) / length, 3),
            "output_tokens_per_s": round(arrived / length, 2),
            "prompt_tokens_per_s": round(sum(row.prompt_tokens for row in inside) / length, 2),
        },
        slo=[asdict(verdict) for verdict in verdicts],
        goodput={"per_s": round(well / length, 3), "share": round(well / owed, 4) if owed else 0.0},
        in_flight=_in_flight(rows, begins, ends),
        window_s=(begins, ends),
    )


def distribution(values: Sequence[float]) -> dict[str, float]:
    """Exact figures of a list."""
    if not values:
        return {}
    shares = {f"p{share}": _rounded(metrics.percentile(values, share)) for share in (50, 90, 95, 99)}
    return {"n": len(values), "mean": _rounded(math.fsum(values) / len(values)), **shares, "max": _rounded(max(values))}


def in_flight(rows: Iterable[Row]) -> list[tuple[float, int]]:
    """How many requests were open, at each moment that this changed."""
    changes = sorted([(row.sent, 1) for row in rows] + [(row.ended, -1) for row in rows])
    level, steps = 0, []
    for at, change in changes:
        level += change
        steps.append((at, level))
    return steps


def sentence(summary: Summary, plan: Plan) -> str:
    """The run in words."""
    load = summary.load
    how = f"{load['sent_per_s']:.2f} requests/s" if not plan.closed else "a closed loop"
    total = sum(summary.outcomes.values())
    answered = summary.outcomes.get("complete", 0)
    cancelled = summary.outcomes.get("cancelled", 0)
    parts = [f"{answered} of {total - cancelled} requests answered"]
    for name, label in (("ttft_ms", "TTFT"), ("tpot_ms", "TPOT")):
        if figures := summary.latencies.get(name):
            parts.append(f"{label} p50 {figures['p50']:.0f} ms, p95 {figures['p95']:.0f} ms")
    parts.append(f"{summary.throughput['output_tokens_per_s']:.0f} tokens/s")
    if plan.slo:
        limits = ", ".join(str(each) for each in plan.slo)
        parts.append(f"{100 * summary.goodput['share']:.0f} % within {limits}")
    said = f"{load['model']} over {load['transport']}, {how}: {'; '.join(parts)}."
    return said if summary.valid else f"INVALID ({'; '.join(summary.invalid_because)}): {said}"


def _doubts(load: dict[str, Any], plan: Plan, client: Client, due: int, sent: int) -> list[str]:
    """Why these figures are the client's and not the server's, by what was due and what was sent in the window."""
    doubts = [client.cut_short] if client.cut_short else []
    if not due:
        doubts.append("no request was due in the window")
    if load["lag_ms"]["p99"] > plan.max_lag_ms:
        doubts.append(f"client-bound: requests left {load['lag_ms']['p99']:.0f} ms late at p99")
    busy = {worker: cpu["p95"] for worker, cpu in load["cpu_percent"].items() if cpu["p95"] > plan.max_cpu}
    if busy:
        worker, percent = max(busy.items(), key=lambda pair: pair[1])
        doubts.append(f"client-bound: worker {worker} used {percent:.0f} % of a core")
    if not plan.closed and due - sent > max(1, (1 - _ACHIEVED) * due):  # one may leave just after the window
        doubts.append(f"client-bound: {load['sent_per_s']:g} of {load['asked_per_s']:g} requests/s were sent")
    if client.scheduled is not None and plan.workload.turns == 1 and load["requests"] < client.scheduled:
        doubts.append(f"{client.scheduled - load['requests']} scheduled requests have no row")
    return doubts


def _latencies(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    taken = {
        name: distribution([value * scale for row in rows if not row.failed and (value := of(row)) is not None])
        for name, (of, scale) in _PER_REQUEST.items()
    }
    taken["itl_ms"] = distribution([1000 * gap for row in rows if not row.failed for gap in metrics.itl(row)])
    return {name: figures for name, figures in taken.items() if figures}


def _errors(rows: Sequence[Row]) -> list[dict[str, Any]]:
    failed: dict[str, list[Row]] = {}
    for row in rows:
        if row.failed:
            failed.setdefault(str(row.outcome), []).append(row)
    return [
        {
            "outcome": outcome,
            "count": len(found),
            "samples": [
                {"at": _rounded(row.ended), "status": row.status, "detail": row.detail} for row in found[:_SAMPLES]
            ],
        }
        for outcome, found in sorted(failed.items(), key=lambda pair: -len(pair[1]))
    ]


def _in_flight(rows: Sequence[Row], begins: float, ends: float) -> dict[str, float]:
    """Mean open requests in the window's first and last quarter: a queue that grows shows here."""
    quarter = (ends - begins) / 4
    return {
        "first_quarter": _rounded(_open_seconds(rows, begins, begins + quarter) / quarter),
        "last_quarter": _rounded(_open_seconds(rows, ends - quarter, ends) / quarter),
    }


def _open_seconds(rows: Sequence[Row], begins: float, ends: float) -> float:
    return sum(max(0.0, min(row.ended, ends) - max(row.sent, begins)) for row in rows)


def _rounded(value: float) -> float:
    return round(value, 3)
