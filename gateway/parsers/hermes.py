"""Hermes and Qwen: ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``, one pair of tags a call."""

from gateway.parsers.calls import Calls, attempt, read_call, skip
from gateway.parsers.tape import Markers, Reading, Tape

_OPEN = Markers("<tool_call>")


def hermes(tape: Tape, calls: Calls) -> Reading[None]:
    """Read an answer."""
    while (yield from tape.until(_OPEN, calls.content)):
        if (yield from attempt(tape, calls, _tagged(tape, calls))):
            yield from skip(tape, "</tool_call>")


def _tagged(tape: Tape, calls: Calls) -> Reading[bool]:
    return (yield from tape.peek()) == "{" and (yield from read_call(tape, calls))
