"""Llama 3: ``<|python_tag|>{"name": …, "parameters": {…}}``, or that object alone; several are parted by ``;``."""

from gateway.parsers.calls import Calls, attempt, read_call, skip
from gateway.parsers.tape import Markers, Reading, Tape

_TAG = Markers("<|python_tag|>")


def llama3(tape: Tape, calls: Calls) -> Reading[None]:
    """Read an answer. Without the tag, an object is a call only where the answer begins with it."""
    bare = True
    while True:
        while (yield from attempt(tape, calls, _object(tape, calls, bare))):
            yield from skip(tape, ";")
        if not (yield from tape.until(_TAG, calls.content)):
            return
        bare = False


def _object(tape: Tape, calls: Calls, bare: bool) -> Reading[bool]:
    return (yield from tape.peek()) == "{" and (yield from read_call(tape, calls, bare=bare))
