"""The row of a request: everything that its client saw, and nothing computed from it.

Every worker writes rows; whatever a report says is worked out from them afterwards (:mod:`loadtests.load.metrics`).
Times are seconds since the run's start, which all workers share.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path

import msgspec


class Outcome(StrEnum):
    """How a request ended, as its client saw it."""

    COMPLETE = "complete"
    CANCELLED = "cancelled"  # by the client, as planned
    CONNECT = "connect"  # no connection, or no answer on it
    REFUSED = "4xx"
    RATE_LIMITED = "429"
    SERVER_ERROR = "5xx"
    MID_STREAM = "mid-stream"  # an error event after the answer had begun
    TRUNCATED = "truncated"  # the stream stopped without its end
    EMPTY = "empty"  # a proper end, and no content
    TIMEOUT = "timeout"


class Row(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One request."""

    number: int  # in the schedule, or of this user's requests
    worker: int = 0
    kind: str = "chat"
    turn: int = 0  # of a conversation
    intended: float  # when it should have been sent; the same as sent in a closed loop
    sent: float = 0.0
    connected: float = 0.0  # 0: an open channel was used
    first_byte: float = 0.0
    chunks: list[tuple[float, int]] = msgspec.field(default_factory=list)  # (arrival, tokens; 0: not told) of content
    ended: float = 0.0
    prompt_tokens: int = 0
    output_tokens: int = 0  # as the server counts; 0: not told
    queued_s: float | None = None  # where the server tells
    finish_reason: str = ""
    status: int = 0  # of HTTP
    retry_after_s: int = 0  # of a refusal
    outcome: Outcome = Outcome.COMPLETE
    detail: str = ""  # of an error

    @property
    def answered(self) -> bool:
        """Whether a whole answer came."""
        return self.outcome is Outcome.COMPLETE

    @property
    def failed(self) -> bool:
        """Whether the server owed an answer and gave none."""
        return self.outcome not in {Outcome.COMPLETE, Outcome.CANCELLED}


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Row).decode


def append_rows(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to a file of JSON lines."""
    with path.open("ab") as file:
        file.writelines(_encode(row) + b"\n" for row in rows)


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file of JSON lines."""
    with path.open("rb") as file:
        for line in file:
            yield _decode(line)
