"""Conch's metrics on Triton's own /metrics, the same names whatever the engine.

Triton's custom metrics cost a message to the server for every call, so a stage counts in its own
memory and hands over the differences a few times a second at most. Histograms are published as what Prometheus reads
of them: cumulative ``_bucket`` counters with a ``le`` label, ``_sum`` and ``_count``.
"""

import bisect
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
        self._add(name, tuple(labels.items()), amount)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        series = name, tuple(labels.items())
        with self._lock:
            if self._published.get(series) != value:
                self._published[series] = self._gauges[series] = value

    def observe(self, name: str, seconds: float, times: int = 1) -> None:
        """Add ``times`` equal observations to a histogram."""
        bounds = BUCKETS[name]
        for bound in (*map(str, bounds[bisect.bisect_left(bounds, seconds) :]), "+Inf"):
            self._add(f"{name}_bucket", (("le", bound),), times)
        self._add(f"{name}_sum", (), seconds * times)
        self._add(f"{name}_count", (), times)

    def publish(self) -> None:
        """Hand what changed to Triton."""
        with self._lock:
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

    def _add(self, name: str, labels: Labels, amount: float) -> None:
        with self._lock:
            self._increments[name, labels] = self._increments.get((name, labels), 0) + amount

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
