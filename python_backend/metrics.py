"""Conch's metrics on Triton's own /metrics, the same names whatever the engine.

Triton's custom metrics cost a message to the server for every call, so a stage counts in its own
memory and hands over the differences a few times a second at most. Histograms are published as what Prometheus reads
of them: cumulative ``_bucket`` counters with a ``le`` label, ``_sum`` and ``_count``.
"""

import bisect
import itertools
import threading
from collections.abc import Callable
from typing import Any

import triton_python_backend_utils as pb_utils

TTFT = "conch_time_to_first_token_seconds"
ITL = "conch_inter_token_latency_seconds"
E2E = "conch_e2e_seconds"

BUCKETS: dict[str, tuple[float, ...]] = {
    TTFT: (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    ITL: (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0),
    E2E: (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
}

HELP = {
    "conch_requests_active": "Requests in the engine's batch",
    "conch_requests_waiting": "Requests waiting for the engine's batch",
    "conch_streams_open": "Streams that a stage holds state for",
    "conch_engine_steps_total": "Steps the engine made",
    "conch_kv_cache_usage_ratio": "Share of the KV cache in use",
    "conch_draft_tokens_total": "Tokens guessed ahead by speculative decoding",
    "conch_draft_tokens_accepted_total": "Guessed tokens that the model took",
    "conch_requests_total": "Requests ended, by finish reason",
    "conch_prompt_tokens_total": "Prompt tokens of requests ended",
    "conch_generated_tokens_total": "Tokens generated",
    "conch_stream_deltas_total": "Messages from the engine that postprocess handled, heartbeats included",
    TTFT: "Arrival to first token",
    ITL: "Time between tokens of one stream",
    E2E: "Arrival to last token",
}

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counters and gauges of one stage. Thread-safe; nothing here talks to Triton but :meth:`publish`."""

    def __init__(self, deployment: str, period_s: float = 1.0, poll: Callable[["Metrics"], None] | None = None) -> None:
        self._base: Labels = (("model", deployment),)
        self._lock = threading.Lock()
        self._increments: dict[tuple[str, Labels], float] = {}
        self._observed: dict[str, list[float]] = {}  # histogram -> the count of each bucket, then the sum
        self._gauges: dict[tuple[str, Labels], float] = {}  # those that changed
        self._published: dict[tuple[str, Labels], float] = {}
        self._families: dict[tuple[str, bool], Any] = {}
        self._series: dict[tuple[str, Labels], Any] = {}
        self._poll = poll
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(period_s,), name="metrics", daemon=True)
        self._thread.start()

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        key = (name, tuple(labels.items()))
        with self._lock:
            self._increments[key] = self._increments.get(key, 0) + amount

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        series = name, tuple(labels.items())
        with self._lock:
            if self._published.get(series) != value:
                self._published[series] = self._gauges[series] = value

    def observe(self, name: str, seconds: float, times: int = 1) -> None:
        """Add ``times`` equal observations to a histogram."""
        with self._lock:
            seen = self._observed.setdefault(name, [0.0] * (len(BUCKETS[name]) + 2))
            seen[bisect.bisect_left(BUCKETS[name], seconds)] += times
            seen[-1] += seconds * times

    def publish(self) -> None:
        """Hand what changed to Triton."""
        with self._lock:
            for name, seen in self._observed.items():
                self._cumulate(name, seen)
            self._observed.clear()
            increments, self._increments = self._increments, {}
            gauges, self._gauges = self._gauges, {}
        for (name, labels), amount in increments.items():
            self._metric(name, labels, counter=True).increment(amount)
        for (name, labels), value in gauges.items():
            self._metric(name, labels, counter=False).set(value)

    def stop(self) -> None:
        """Publish once more and stop."""
        self._stopped.set()
        self._thread.join(timeout=5)
        self.publish()

    def _cumulate(self, name: str, seen: list[float]) -> None:
        """A histogram's new observations, a count for each bucket and their sum, as Prometheus' counters."""
        *counts, total = seen
        for bound, below in zip((*map(str, BUCKETS[name]), "+Inf"), itertools.accumulate(counts), strict=True):
            if below:
                self._increments[f"{name}_bucket", (("le", bound),)] = below
        self._increments[f"{name}_sum", ()] = total
        self._increments[f"{name}_count", ()] = sum(counts)

    def _metric(self, name: str, labels: Labels, *, counter: bool) -> Any:
        series = self._series.get((name, labels))
        if series is None:
            family = self._families.get((name, counter))
            if family is None:
                kind = pb_utils.MetricFamily.COUNTER if counter else pb_utils.MetricFamily.GAUGE
                family = pb_utils.MetricFamily(name=name, description=_help(name), kind=kind)
                self._families[name, counter] = family
            series = family.Metric(labels=dict(self._base + labels))
            self._series[name, labels] = series
        return series

    def _run(self, period_s: float) -> None:
        while not self._stopped.wait(period_s):
            if self._poll:
                self._poll(self)
            self.publish()


def _help(name: str) -> str:
    return HELP.get(name) or HELP[name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")]
