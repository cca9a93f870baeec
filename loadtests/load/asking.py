"""One request over any transport, and what became of it."""

from loadtests.load.fault import StreamFault
from loadtests.load.rows import Outcome, Row
from loadtests.load.streams.target import Clock, Stream
from loadtests.load.workload import Ask

EMPTY = StreamFault(Outcome.EMPTY, "a proper end, and no content")


def asked(stream: Stream, ask: Ask, row: Row, clock: Clock) -> tuple[str, StreamFault | None]:
    """Ask, and settle the row's outcome."""
    text, fault = "", None
    try:
        text = stream(ask, row, clock)
        if row.outcome is Outcome.COMPLETE and not row.chunks:
            fault = EMPTY
    except StreamFault as failed:
        fault = failed
    if fault:
        row.outcome, row.detail = fault.outcome, fault.detail[:500]
    if fault or not row.ended:
        row.ended = clock()
    return text, fault
