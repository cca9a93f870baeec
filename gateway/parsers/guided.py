"""What guided decoding makes of tool_choice required or named: one call's JSON object, or a list of them."""

from gateway.parsers.calls import Calls, attempt, read_calls
from gateway.parsers.tape import Markers, Reading, Tape


def guided(tape: Tape, calls: Calls) -> Reading[None]:
    """Read an answer."""
    yield from attempt(tape, calls, read_calls(tape, calls))
    yield from tape.until(Markers(), calls.content)
