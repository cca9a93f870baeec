"""The gateway's own metrics, in a registry of its own."""

from collections.abc import Iterable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gateway.admission import Admission
from gateway.backend import Backend
from gateway.journey import Journey
from gateway.replicas import Replicas

_TTFT_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_E2E_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """What /metrics tells."""

    def __init__(self, backends: Iterable[Backend]) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "conch_gateway_requests",
            "Requests ended; finish_reason is the error's code where there was one",
            ("route", "model", "status", "finish_reason"),
            registry=registry,
        )
        labels = ("route", "model")
        self._ttft = Histogram(
            "conch_gateway_time_to_first_token_seconds",
            "Arrival to first token",
            labels,
            buckets=_TTFT_S,
            registry=registry,
        )
        self._e2e = Histogram(
            "conch_gateway_e2e_seconds", "Arrival to last byte", labels, buckets=_E2E_S, registry=registry
        )
        self._queue = Histogram(
            "conch_gateway_queue_seconds", "Arrival to admission", labels, buckets=_TTFT_S, registry=registry
        )
        prompt = Counter("conch_gateway_prompt_tokens", "Prompt tokens of answers", ("model",), registry=registry)
        self._cached = Counter(
            "conch_gateway_prompt_tokens_cached",
            "Of the prompt tokens, those that the prefix cache had; where the engine tells",
            ("model",),
            registry=registry,
        )
        self._expected = Counter(
            "conch_gateway_prompt_tokens_expected_cached",
            "Of the prompt tokens, those that were sent to the same of several servers before",
            ("model",),
            registry=registry,
        )
        self._answers = Counter(
            "conch_gateway_replica_answers",
            "Answers that a server ended",
            ("model", "replica"),
            registry=registry,
        )
        generated = Counter("conch_gateway_generated_tokens", "Tokens of answers", ("model",), registry=registry)
        self._tokens = (prompt, generated)
        whose = ("key", "model")
        self._of_key = Counter(
            "conch_gateway_key_requests", "Requests of a key, ended", (*whose, "outcome"), registry=registry
        )
        self._tokens_of_key = Counter(
            "conch_gateway_key_tokens", "Tokens of a key", (*whose, "kind"), registry=registry
        )
        in_flight = Gauge("conch_gateway_requests_active", "Answers in flight", ("model",), registry=registry)
        tokens = Gauge("conch_gateway_tokens_active", "Tokens they may come to hold", ("model",), registry=registry)
        queued = Gauge(
            "conch_gateway_requests_waiting", "Requests waiting to be admitted", ("model",), registry=registry
        )
        up = Gauge("conch_gateway_replica_up", "1: the server answers", ("model", "replica"), registry=registry)
        for backend in backends:
            if isinstance(backend.client, Replicas):
                for replica in backend.client.members:
                    up.labels(backend.name, replica.address).set_function(partial(getattr, replica, "live"))
            assert isinstance(backend.admission, Admission)
            for gauge, read in ((in_flight, _requests), (tokens, _tokens), (queued, _queued)):
                gauge.labels(backend.name).set_function(partial(read, backend.admission))

    def record(self, journey: Journey, now: float) -> None:
        """Count a request that has ended."""
        self._requests.labels(journey.route, journey.model, str(journey.status), journey.finish_reason).inc()
        if not journey.model:
            return
        self._e2e.labels(journey.route, journey.model).observe(now - journey.began)
        if journey.admitted:
            self._queue.labels(journey.route, journey.model).observe(journey.admitted - journey.began)
        if journey.first_token:
            self._ttft.labels(journey.route, journey.model).observe(journey.first_token - journey.began)
        for counter, amount in zip(self._tokens, (journey.prompt_tokens, journey.completion_tokens), strict=True):
            counter.labels(journey.model).inc(amount)
        for server in journey.servers:
            self._answers.labels(journey.model, server).inc()
        self._expected.labels(journey.model).inc(journey.expected_tokens)
        if journey.cached_tokens is not None:
            self._cached.labels(journey.model).inc(journey.cached_tokens)
        if journey.key:
            self._record_key(journey)

    def _record_key(self, journey: Journey) -> None:
        self._of_key.labels(journey.key, journey.model, journey.outcome).inc()
        for kind, amount in (("prompt", journey.prompt_tokens), ("generated", journey.completion_tokens)):
            self._tokens_of_key.labels(journey.key, journey.model, kind).inc(amount)

    def page(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self._registry)


def _requests(admission: Admission) -> float:
    return admission.in_flight.requests


def _tokens(admission: Admission) -> float:
    return admission.in_flight.tokens


def _queued(admission: Admission) -> float:
    return admission.queued
