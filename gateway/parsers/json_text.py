"""JSON read from a tape, for where it ends: strict about structure, indifferent to what strings hold.

No recursion: a model may nest as deep as its context is long.
"""

import json
import re

from gateway.parsers.tape import Reading, Tape

_CLOSING = {"{": "}", "[": "]"}
_STRING_RUN = re.compile(r'[^"\\]*')
_SCALAR_RUN = re.compile(r"[-+.0-9A-Za-z]*")
_SCALAR = re.compile(r"true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")


def read_value(tape: Tape) -> Reading[bool]:
    """Read past one value. False: it is not JSON from ``tape.at`` on, or the text ended."""
    awaited: list[str] = []  # closing brackets, the innermost last
    while True:
        head = yield from tape.peek()
        if head in _CLOSING:
            tape.at += 1
            awaited.append(_CLOSING[head])
            if (yield from tape.peek()) != awaited[-1]:
                if head == "{" and not (yield from _read_key(tape)):
                    return False
                continue
        elif not (yield from (_read_string(tape) if head == '"' else _read_scalar(tape))):
            return False
        while awaited:
            after = yield from tape.peek()
            if after == awaited[-1]:
                tape.at += 1
                awaited.pop()
            elif after == ",":
                tape.at += 1
                if awaited[-1] == "}" and not (yield from _read_key(tape)):
                    return False
                break
            else:
                return False
        else:
            return True


def read_text(tape: Tape) -> Reading[str | None]:
    """A string's value; None where there is no string. The tape must be holding, without a sink."""
    if (yield from tape.peek()) != '"':
        return None
    start = tape.at - tape.mark
    if not (yield from _read_string(tape)):
        return None
    try:
        return str(json.loads(tape.text[tape.mark + start : tape.at], strict=False))
    except ValueError:
        return None


def read_key(tape: Tape) -> Reading[str | None]:
    """A member's name, read past its colon; None where there is none."""
    key = yield from read_text(tape)
    if key is None or (yield from tape.peek()) != ":":
        return None
    tape.at += 1
    return key


def _read_key(tape: Tape) -> Reading[bool]:
    if (yield from tape.peek()) != '"' or not (yield from _read_string(tape)):
        return False
    if (yield from tape.peek()) != ":":
        return False
    tape.at += 1
    return True


def _read_string(tape: Tape) -> Reading[bool]:
    tape.at += 1
    while True:
        tape.at = _STRING_RUN.match(tape.text, tape.at).end()  # type: ignore[union-attr]  # it matches nothing too
        left = len(tape.text) - tape.at
        if left and tape.text[tape.at] == '"':
            tape.at += 1
            return True
        if left > 1:
            tape.at += 2  # a backslash and what it escapes
        elif not (yield from tape.more()):
            tape.at = len(tape.text)
            return False


def _read_scalar(tape: Tape) -> Reading[bool]:
    while True:
        run = _SCALAR_RUN.match(tape.text, tape.at)
        assert run
        if run.end() < len(tape.text):
            break
        if not (yield from tape.more()):
            tape.at = len(tape.text)
            return False
    if not _SCALAR.fullmatch(run[0]):
        return False
    tape.at = run.end()
    return True
