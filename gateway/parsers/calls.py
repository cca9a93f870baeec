"""What the families of tool calls share: the events they give out, and the JSON object of one call."""

import re
import secrets
import string
from collections.abc import Callable

from gateway.parsers.events import Content, Event, ToolCallArguments, ToolCallStart
from gateway.parsers.json_text import read_key, read_text, read_value
from gateway.parsers.tape import Reading, Tape

_ARGUMENTS = ("arguments", "parameters")
_BARE_KEYS = frozenset({"name", "type", "id", *_ARGUMENTS})
_NAME = re.compile(r"[\w.:/-]{1,128}")
_ID_LETTERS = string.ascii_letters + string.digits


def new_call_id() -> str:
    """A call's id. Nine letters and digits: Mistral's templates refuse any other form, nobody else minds."""
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(9))


def is_name(name: str) -> bool:
    """True for what can name a function."""
    return _NAME.fullmatch(name) is not None


class Calls:
    """The events of an answer with tools. Blanks around a call belong to its form, not to the content."""

    def __init__(self) -> None:
        self.count = 0
        self._events: list[Event] = []
        self._blanks = ""  # read, and content only if more content follows
        self._after_call = False

    def content(self, text: str) -> None:
        """Text outside of calls."""
        if not text:
            return
        text = self._blanks + text
        solid = text.rstrip()
        self._blanks = text[len(solid) :]
        if solid:
            self._events.append(Content(solid))
            self._after_call = False

    def start(self, name: str) -> None:
        """A call begins."""
        self._blanks = ""
        self._after_call = True
        self._events.append(ToolCallStart(self.count, new_call_id(), name))
        self.count += 1

    def arguments(self, text: str) -> None:
        """More of the last call's arguments."""
        if text:
            self._events.append(ToolCallArguments(self.count - 1, text))

    def finish(self) -> None:
        """The end of the text."""
        if self._blanks and not self._after_call:
            self._events.append(Content(self._blanks))
        self._blanks = ""

    def drain(self) -> list[Event]:
        """The events since the last time."""
        events, self._events = self._events, []
        return events


Family = Callable[[Tape, Calls], Reading[None]]


def attempt(tape: Tape, calls: Calls, reading: Reading[bool]) -> Reading[bool]:
    """Read calls. Where this fails, go back to the first character that is not part of one."""
    held, before = tape.at - tape.mark, calls.count
    if (yield from reading):
        tape.take()
        return True
    tape.at = tape.mark + (held if calls.count == before else 0)
    return False


def skip(tape: Tape, framing: str) -> Reading[bool]:
    """Read past a marker that only frames calls, where it is there."""
    found = yield from tape.literal(framing)
    if found:
        tape.take()
    return found


def read_arguments(tape: Tape, calls: Calls, name: str) -> Reading[bool]:
    """At '{': start a call and give out its arguments as they come."""
    calls.start(name)
    tape.take()
    tape.sink = calls.arguments
    whole = yield from read_value(tape)
    tape.sink = None
    calls.arguments(tape.take())
    return whole


def read_call(tape: Tape, calls: Calls, *, bare: bool = False) -> Reading[bool]:
    """At '{': read ``{"name": …, "arguments": {…}}``, its members in any order.

    Args:
        bare: no marker announced a call, so only an object with nothing but a call's members is one.
    """
    tape.at += 1
    name, early, started = "", "", False  # early: arguments that came before the name
    while True:
        key = yield from read_key(tape)
        if key is None or (bare and key not in _BARE_KEYS):
            return False
        head = yield from tape.peek()
        if key == "name" and not name:
            name = (yield from read_text(tape)) or ""
            if not is_name(name):
                return False
            if early:
                calls.start(name)
                calls.arguments(early)
                tape.take()
                started = True
        elif key in _ARGUMENTS and not early and not started and head != "n":  # null: none
            if head != "{":
                return False
            if name:
                started = True
                if not (yield from read_arguments(tape, calls, name)):
                    return False
            else:
                begin = tape.at - tape.mark
                if not (yield from read_value(tape)):
                    return False
                early = tape.text[tape.mark + begin : tape.at]
        elif not (yield from read_value(tape)):
            return False
        after = yield from tape.peek()
        if after not in ("}", ","):
            return False
        tape.at += 1
        if after == "}":
            break
    if not started:
        if bare or not name:
            return False
        calls.start(name)
        calls.arguments("{}")
    return True


def read_calls(tape: Tape, calls: Calls) -> Reading[bool]:
    """Read one call's object, or a list of them."""
    head = yield from tape.peek()
    if head != "[":
        return head == "{" and (yield from read_call(tape, calls))
    while True:
        tape.at += 1
        if (yield from tape.peek()) != "{" or not (yield from read_call(tape, calls)):
            return False
        tape.take()
        after = yield from tape.peek()
        if after == "]":
            tape.at += 1
            return True
        if after != ",":
            return False
