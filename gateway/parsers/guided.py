"""What guided decoding makes of tools: calls that must be made, as JSON objects or a list of them, or calls or a text.

What was cut off before it was a call is nothing to show: it is no content.
"""

import json
import re

from gateway.parsers.calls import Calls, Family, attempt, read_calls
from gateway.parsers.tape import Markers, Reading, Tape

_BLANKS = re.compile(r"[ \t\n\r]+")
_LONGEST_HEAD = 400


def guided(tape: Tape, calls: Calls) -> Reading[None]:
    """Read an answer that is calls."""
    yield from attempt(tape, calls, read_calls(tape, calls))
    yield from tape.until(Markers(), _unheard)


def call_or_text(names: tuple[str, ...]) -> Family:
    """Reads an answer that is calls of these functions, or a text of another form."""
    heads = [f'{opening}{{"name":{json.dumps(name)},"arguments":' for name in names for opening in ("", "[")]

    def read(tape: Tape, calls: Calls) -> Reading[None]:
        while True:
            head = _BLANKS.sub("", tape.text[tape.mark : tape.mark + _LONGEST_HEAD])
            if any(head.startswith(whole) for whole in heads):
                yield from guided(tape, calls)
                return
            begun = any(whole.startswith(head) for whole in heads)
            if not begun or not (yield from tape.more()):
                break
        yield from tape.until(Markers(), _unheard if begun else calls.content)

    return read


def _unheard(_: str) -> None:
    """Of nothing that is to be shown."""
