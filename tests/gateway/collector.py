"""A collector of traces: takes OTLP over HTTP, as any of them does, and keeps the spans."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.gateway.conftest import until

KINDS = Span.SpanKind


@dataclass
class Collector:
    """What has come."""

    port: int = 0
    status: int = 200  # that it answers with
    asked: int = 0
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """For ``tracing.endpoint``."""
        return f"http://127.0.0.1:{self.port}"

    def take(self, body: bytes, headers: dict[str, str]) -> None:
        """One batch."""
        self.asked += 1
        self.headers.append(headers)
        if self.status == 200:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(attributes(resource.resource))
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]

    def whole(self, request_id: str) -> "Tree":
        """The trace of a request, once it has come; all of its spans come in one batch or in two."""
        found: list[Tree] = []

        def there() -> bool:
            found[:] = [tree for tree in self.trees() if tree.attributes.get(REQUEST_ID) == [request_id]]
            return bool(found)

        until(there)
        return found[0]

    def trees(self) -> list["Tree"]:
        """What has come of each request whose whole span is there, which is ended last."""
        return [self._tree(span) for span in list(self.spans) if span.kind == KINDS.SPAN_KIND_SERVER]

    def _tree(self, span: Span) -> "Tree":
        within = [each for each in self.spans if each.parent_span_id == span.span_id]
        return Tree(span, [self._tree(each) for each in sorted(within, key=lambda each: each.start_time_unix_nano)])


REQUEST_ID = "http.response.header.x-request-id"


@dataclass
class Tree:
    """A span and those within it, in their order."""

    span: Span
    parts: list["Tree"]

    @property
    def name(self) -> str:
        return self.span.name

    @property
    def attributes(self) -> dict[str, Any]:
        return attributes(self.span)

    @property
    def failed(self) -> bool:
        return bool(self.span.status.code == 2)

    def names(self) -> list[str]:
        return [part.name for part in self.parts]

    def part(self, name: str) -> "Tree":
        (found,) = [part for part in self.parts if part.name == name]
        return found


def attributes(of: Any) -> dict[str, Any]:
    """Of a span, or of a resource."""
    return {each.key: plain(each.value) for each in of.attributes}


def plain(value: AnyValue) -> Any:
    if value.HasField("array_value"):
        return [plain(each) for each in value.array_value.values]
    return getattr(value, str(value.WhichOneof("value")))


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    """A collector on a port."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            collector.take(self.rfile.read(int(self.headers["content-length"])), dict(self.headers.items()))
            self.send_response(collector.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Not into the test's own output."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as door:
        collector.port = door.server_port
        threading.Thread(target=door.serve_forever, daemon=True).start()
        yield collector
        door.shutdown()
