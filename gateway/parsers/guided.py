"""What guided decoding makes of tool_choice required or named: one call's JSON object, or a list of them."""

from gateway.parsers.calls import Calls, attempt, read_call, read_call_list
from gateway.parsers.tape import Markers, Reading, Tape


def guided(tape: Tape, calls: Calls) -> Reading[None]:
    """Read an answer."""
    yield from attempt(tape, calls, _called(tape, calls))
    yield from tape.until(Markers(), calls.content)


def _called(tape: Tape, calls: Calls) -> Reading[bool]:
    head = yield from tape.peek()
    if head == "[":
        return (yield from read_call_list(tape, calls))
    return head == "{" and (yield from read_call(tape, calls))
