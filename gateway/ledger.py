"""The ledger: a line of JSON for each request that named a deployment, with its key and its tokens, and no word of it.

A thread writes it, so that a slow disk holds no request up. What cannot be written is counted and said once, and
serving goes on. One process keeps it: the gateway's only one, or the desk.
"""

import logging
import sys
import time
from datetime import UTC, datetime
from logging import LogRecord, makeLogRecord
from logging.handlers import QueueListener, RotatingFileHandler
from pathlib import Path
from queue import SimpleQueue

import msgspec

from gateway.journey import Journey

log = logging.getLogger("gateway")

_MOST_BYTES = 64 * 2**20  # of a file; then another is begun
_FILES = 8  # with the one that is written to
_MOST_WAITING = 10_000  # lines


class Entry(msgspec.Struct):
    """One line."""

    at: str  # when it ended
    id: str
    key: str
    model: str
    route: str
    status: int
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int | None
    completion_tokens: int
    ttft_s: float | None
    e2e_s: float


class _Files(RotatingFileHandler):
    """PATH, and PATH.1 and on, the newest first."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        super().__init__(path, maxBytes=most_bytes, backupCount=_FILES - 1, encoding="utf-8", delay=True)
        self._path = path
        self._lost = 0

    def emit(self, record: LogRecord) -> None:
        """Write a line."""
        before = self._lost
        super().emit(record)
        if before and self._lost == before:
            log.warning("the ledger %s is written again; %d requests are missing in it", self._path, before)
            self._lost = 0

    def handleError(self, record: LogRecord) -> None:
        """A line could not be written."""
        if not self._lost:
            log.error("the ledger %s cannot be written, requests go on without it: %s", self._path, sys.exc_info()[1])
        self._lost += 1


class Ledger:
    """Open for as long as the gateway runs."""

    def __init__(self, path: Path, most_bytes: int = _MOST_BYTES) -> None:
        self._lines: SimpleQueue[LogRecord] = SimpleQueue()
        self._writer = QueueListener(self._lines, _Files(path, most_bytes))
        self._writer.start()

    def note(self, journey: Journey, now: float) -> None:
        """A request has ended."""
        if self._lines.qsize() < _MOST_WAITING:
            self._lines.put(makeLogRecord({"msg": msgspec.json.encode(_entry(journey, now)).decode()}))

    def close(self) -> None:
        """Write what waits."""
        self._writer.stop()


def _entry(journey: Journey, now: float) -> Entry:
    ended = datetime.fromtimestamp(time.time(), UTC)
    return Entry(
        at=f"{ended:%Y-%m-%dT%H:%M:%S}.{ended.microsecond // 1000:03d}Z",
        id=journey.request_id,
        key=journey.key,
        model=journey.model,
        route=journey.route,
        status=journey.status,
        finish_reason=journey.finish_reason,
        prompt_tokens=journey.prompt_tokens,
        cached_tokens=journey.cached_tokens,
        completion_tokens=journey.completion_tokens,
        ttft_s=round(journey.first_token - journey.began, 4) if journey.first_token else None,
        e2e_s=round(now - journey.began, 4),
    )
