"""Where spans go: to a collector, to a file, or both; each from a thread of its own, and in silence.

What finds no room on its way is lost, and no request ever waits for it.
"""

import logging
import os
import re
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
_HEADER = re.compile(r"[\w!#$%&'*+.^`|~-]+: *[!-~][ -~]*", re.ASCII)
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
        ServeError: the file cannot be written, or that of the headers not read.
    """
    words, theirs = _LastWords(), logging.getLogger("opentelemetry")
    theirs.addHandler(words)
    theirs.propagate = False
    if tracing.file:  # first, as they are ended in this order and a collector may hang
        yield _batched(Told(_to_file(tracing.file), str(tracing.file), words))
    if tracing.endpoint:
        url = f"{tracing.endpoint.rstrip('/')}/v1/traces"
        headers = _headers(tracing.headers) if tracing.headers else None
        yield _batched(Told(OTLPSpanExporter(url, headers=headers, timeout=_TIMEOUT_S), url, words))


def _batched(exporter: SpanExporter) -> BatchSpanProcessor:
    return BatchSpanProcessor(exporter, _MOST_WAITING, _PERIOD_MS, _BATCH)


def _headers(path: Path) -> dict[str, str]:
    """Those of a collector; no error says what is in the file."""
    fix = "Name a file with a line for each header, such as authorization: Bearer …"
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise ServeError(f"tracing.headers: {path} cannot be read: {reason}", fix=fix) from None
    for number, line in enumerate(lines, 1):
        if not _HEADER.fullmatch(line):
            raise ServeError(f"tracing.headers: {path}: header {number} is no NAME: VALUE", fix=fix)
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _to_file(path: Path) -> FileSpanExporter:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as error:
        reason = f"tracing.file: {path} cannot be written: {error.strerror}"
        raise ServeError(reason, fix="Name a file in a folder that is there") from None
    return FileSpanExporter(stream=os.fdopen(descriptor, "a", _LINE_BYTES, encoding="utf-8"))
