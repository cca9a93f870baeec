"""OpenTelemetry's side of it: which requests are sampled, whose trace they belong to, and where the spans go."""

import os
import threading
import time

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

from contract.tracing import Tracing
from gateway.health import RELEASE
from gateway.journey import Journey
from gateway.tracing.export import processors
from gateway.tracing.spans import CLIENT_LEFT, Attributes, Span, whole
from gateway.tracing.trace import Trace

_LAST_WORDS_S = 1.5  # for what is still to be exported at the end
_MOST_CHARACTERS = 2**16  # of an attribute

_traceparent = TraceContextTextMapPropagator()


class Tracer:
    """The traces of one process.

    Args:
        tracing: the spec's section; it is on.

    Raises:
        ServeError: its file cannot be written.
    """

    def __init__(self, tracing: Tracing) -> None:
        self._content = tracing.content
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(tracing.sample)),
            resource=Resource(
                {"service.name": "conch-gateway", "service.version": RELEASE, "process.pid": os.getpid()}
            ),
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_span_attribute_length=_MOST_CHARACTERS),
        )
        for processor in processors(tracing):
            self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("conch.gateway", RELEASE)

    def begin(self, scope: Scope, journey: Journey) -> Trace | None:
        """A request has come; None: it is not sampled."""
        clock_ns = time.time_ns() - time.monotonic_ns()
        root = self._tracer.start_span(
            scope["method"],
            context=_traceparent.extract(_told(scope)),
            kind=SpanKind.SERVER,
            start_time=round(journey.began * 1e9) + clock_ns,
        )
        if not root.is_recording():
            return None
        return Trace(root, f"{root.get_span_context().trace_id:032x}", self._content, clock_ns)

    def end(self, trace: Trace, scope: Scope, journey: Journey, request_id: str, now: float) -> None:
        """It has ended, however."""
        span = whole(trace, journey, now, _seen(scope, request_id))
        trace.root.update_name(f"{scope['method']} {journey.route}" if journey.route != "other" else scope["method"])
        trace.root.set_attributes(span.attributes)
        self._end(trace.root, span)

    def close(self) -> None:
        """Export what is left, as far as that takes no time; an endpoint that hangs holds nobody up."""
        last = threading.Thread(target=self._provider.shutdown, name="last traces", daemon=True)
        last.start()
        last.join(_LAST_WORDS_S)

    def _end(self, started: OtelSpan, span: Span) -> None:
        context = set_span_in_context(started)
        for part in span.parts:
            child = self._tracer.start_span(
                part.name,
                context,
                kind=SpanKind.CLIENT if part.asks else SpanKind.INTERNAL,
                attributes=part.attributes,
                start_time=part.begun_ns,
            )
            self._end(child, part)
        if span.error:
            started.set_attribute("error.type", span.error)
            if span.error != CLIENT_LEFT:  # which is nobody's failure
                started.set_status(Status(StatusCode.ERROR))
        started.end(span.ended_ns)


def _told(scope: Scope) -> dict[str, list[str]]:
    """The headers in which a client tells its own trace."""
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        if name in (b"traceparent", b"tracestate"):
            found.setdefault(name.decode(), []).append(value.decode("latin-1"))
    return found


def _seen(scope: Scope, request_id: str) -> Attributes:
    seen = {
        "http.request.method": scope["method"],
        "url.path": scope["path"],
        "url.scheme": scope["scheme"],
        "network.protocol.version": scope["http_version"],
        "http.response.header.x-request-id": [request_id],
    }
    agent = dict(scope["headers"]).get(b"user-agent")
    return seen | ({"user_agent.original": agent.decode("latin-1")} if agent else {})
