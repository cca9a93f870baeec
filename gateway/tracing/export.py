"""Where spans go: to a collector, to a file, or both; each from a thread of its own, and in silence.

What finds no room on its way is lost, and no request ever waits for it.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from opentelemetry.exporter.otlp.json.file import FileSpanExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from contract.errors import ServeError
from contract.tracing import Tracing

_TIMEOUT_S = 10.0  # of a batch, its further tries included
_PERIOD_MS = 1000
_BATCH = 512  # spans
_MOST_WAITING = 8192
_LINE_BYTES = 2**24  # a line leaves in one write, as several processes may share the file

log = logging.getLogger("gateway")


class _LastWords(logging.Handler):
    """Keeps what the SDK would log, which would be a line for every try."""

    said = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.said = record.getMessage()


class Told(SpanExporter):
    """An exporter of which the log says once that it fails, and once that it does so no more.

    Args:
        where: what it exports to, in the log's words.
    """

    def __init__(self, exporter: SpanExporter, where: str, words: _LastWords) -> None:
        self._exporter, self._where, self._words = exporter, where, words
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Hand a batch on."""
        result = self._exporter.export(spans)
        failing = result is not SpanExportResult.SUCCESS
        if failing and not self._failing:
            log.warning("traces do not reach %s and are lost until they do: %s", self._where, self._words.said)
        elif self._failing and not failing:
            log.info("traces reach %s again", self._where)
        self._failing = failing
        return result

    def shutdown(self) -> None:
        """End it."""
        self._exporter.shutdown()


def processors(tracing: Tracing) -> Iterator[BatchSpanProcessor]:
    """What takes spans that have ended.

    Raises:
        ServeError: the file cannot be written.
    """
    words, theirs = _LastWords(), logging.getLogger("opentelemetry")
    theirs.addHandler(words)
    theirs.propagate = False
    if tracing.file:  # first, as they are ended in this order and a collector may hang
        yield _batched(Told(_to_file(tracing.file), str(tracing.file), words))
    if tracing.endpoint:
        url = f"{tracing.endpoint.rstrip('/')}/v1/traces"
        yield _batched(Told(OTLPSpanExporter(url, timeout=_TIMEOUT_S), url, words))


def _batched(exporter: SpanExporter) -> BatchSpanProcessor:
    return BatchSpanProcessor(exporter, _MOST_WAITING, _PERIOD_MS, _BATCH)


def _to_file(path: Path) -> FileSpanExporter:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as error:
        reason = f"tracing.file: {path} cannot be written: {error.strerror}"
        raise ServeError(reason, fix="Name a file in a folder that is there") from None
    return FileSpanExporter(stream=os.fdopen(descriptor, "a", _LINE_BYTES, encoding="utf-8"))
