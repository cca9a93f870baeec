"""Hermes and Qwen: ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``, one pair of tags a call.

SmolLM2 writes a list of such objects between one pair.
"""

from gateway.parsers.calls import Calls, attempt, read_calls, skip
from gateway.parsers.tape import Markers, Reading, Tape

_OPEN = Markers("<tool_call>")


def hermes(tape: Tape, calls: Calls) -> Reading[None]:
    """Read an answer."""
    while (yield from tape.until(_OPEN, calls.content)):
        if (yield from attempt(tape, calls, read_calls(tape, calls))):
            yield from skip(tape, "</tool_call>")
