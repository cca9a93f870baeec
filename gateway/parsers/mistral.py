"""Mistral: ``[TOOL_CALLS][{"name": …, "arguments": {…}}, …]``, later ``[TOOL_CALLS]name[ARGS]{…}`` a call."""

import re

from gateway.parsers.calls import Calls, attempt, is_name, read_arguments, read_calls
from gateway.parsers.tape import Markers, Reading, Tape

_OPEN = Markers("[TOOL_CALLS]")
_HEADER = re.compile(r"\s*(\S+?)\s*(?:\[CALL_ID\]\s*\w+\s*)?(?:\[ARGS\]\s*)?")  # some versions leave [ARGS] out
_LONGEST_HEADER = 256


def mistral(tape: Tape, calls: Calls) -> Reading[None]:
    """Read an answer."""
    while (yield from tape.until(_OPEN, calls.content)):
        yield from attempt(tape, calls, _called(tape, calls))


def _called(tape: Tape, calls: Calls) -> Reading[bool]:
    if (yield from tape.peek()) in ("[", "{"):
        return (yield from read_calls(tape, calls))
    header = _HEADER.fullmatch((yield from tape.header("{", _LONGEST_HEADER)) or "")
    if not header or not is_name(header[1]):
        return False
    return (yield from read_arguments(tape, calls, header[1]))
