"""DeepSeek: calls between its own markers, the arguments in a ```json fence (V3, R1) or bare (V3.1)."""

import re

from gateway.parsers.calls import Calls, attempt, is_name, read_arguments, skip
from gateway.parsers.tape import Markers, Reading, Tape

_CALLS, _CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_CALL, _CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
_OPEN = Markers(_CALLS, _CALL)
# V3: function<sep>NAME newline, fence; V3.1: NAME<sep>
_HEADER = re.compile(r"\s*(\S+?)\s*<｜tool▁sep｜>\s*(?:(\S+)\s*```(?:json)?\s*)?")
_LONGEST_HEADER = 256


def deepseek(tape: Tape, calls: Calls) -> Reading[None]:
    """Read an answer."""
    while marker := (yield from tape.until(_OPEN, calls.content)):
        if not (yield from attempt(tape, calls, _called(tape, calls, marker))):
            continue
        yield from skip(tape, "```")
        yield from skip(tape, _CALL_END)
        yield from skip(tape, _CALLS_END)


def _called(tape: Tape, calls: Calls, marker: str) -> Reading[bool]:
    if marker == _CALLS and not (yield from tape.literal(_CALL)):
        return False
    header = _HEADER.fullmatch((yield from tape.header("{", _LONGEST_HEADER)) or "")
    if not header:
        return False
    name = header[2] or header[1]
    return is_name(name) and (yield from read_arguments(tape, calls, name))
