"""An answer's text as it comes: parsers read it as if all of it were there, and wait where it is not.

A parser is a generator: it yields where it needs more text and goes on from that very place, so each
character is read once however the text is cut. Text from ``mark`` to ``at`` was read but not given
out: a call that turns out malformed is given out as content, from its first character.
"""

import re
from collections.abc import Callable, Generator
from typing import TypeVar

T = TypeVar("T")
Reading = Generator[None, None, T]
Sink = Callable[[str], None]

_BLANKS = re.compile(r"[ \t\n\r]*")


class Markers:
    """Strings to look for. None of them may lie within another."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self._pattern = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        self._longest = max(map(len, names), default=1)

    def search(self, text: str, at: int) -> re.Match[str] | None:
        """The first one from ``at`` on."""
        return self._pattern.search(text, at)

    def begun(self, text: str, at: int) -> int:
        """Where the end of the text may be the beginning of one; the text's length if nowhere."""
        for start in range(max(at, len(text) - self._longest + 1), len(text)):
            if any(name.startswith(text[start:]) for name in self._names):
                return start
        return len(text)


class Tape:
    """The text not yet given out, and how far it was read. Positions hold until the next yield only."""

    __slots__ = ("_closed", "at", "mark", "sink", "text")

    def __init__(self) -> None:
        self.text = ""
        self.mark = 0
        self.at = 0
        self.sink: Sink | None = None  # while set, what was read is given out here before each wait
        self._closed = False

    def feed(self, text: str) -> None:
        """Append a piece."""
        self.text = self.text[self.mark :] + text
        self.at -= self.mark
        self.mark = 0

    def close(self) -> None:
        """No more text will come."""
        self._closed = True

    def take(self) -> str:
        """What was read and not given out; it counts as given out now."""
        taken = self.text[self.mark : self.at]
        self.mark = self.at
        return taken

    def more(self) -> Reading[bool]:
        """Wait for text; False at the end."""
        if self.sink:
            self.sink(self.take())
        known = len(self.text) - self.mark
        while len(self.text) - self.mark == known:
            if self._closed:
                return False
            yield
        return True

    def peek(self) -> Reading[str]:
        """Read past blanks: the character there, '' at the end."""
        while True:
            self.at = _BLANKS.match(self.text, self.at).end()  # type: ignore[union-attr]  # it matches nothing too
            if self.at < len(self.text):
                return self.text[self.at]
            if not (yield from self.more()):
                return ""

    def literal(self, wanted: str) -> Reading[bool]:
        """Read past blanks and these characters; stay where the text has others."""
        before = self.at - self.mark
        yield from self.peek()
        while True:
            given = self.text[self.at : self.at + len(wanted)]
            if given == wanted:
                self.at += len(wanted)
                return True
            if not wanted.startswith(given) or not (yield from self.more()):
                self.at = self.mark + before
                return False

    def header(self, end: str, longest: int) -> Reading[str | None]:
        """Read up to this character: the text before it; None where it is not within ``longest``."""
        while True:
            found = self.text.find(end, self.at, self.at + longest)
            if found >= 0:
                before, self.at = self.text[self.at : found], found
                return before
            if len(self.text) - self.at >= longest or not (yield from self.more()):
                return None

    def until(self, markers: Markers, content: Sink) -> Reading[str]:
        """Give out everything before the first marker and read past it: the marker, still held; '' at the end."""
        while True:
            found = markers.search(self.text, self.at)
            self.at = found.start() if found else markers.begun(self.text, self.at)
            content(self.take())
            if found:
                self.at = found.end()
                return found[0]
            if not (yield from self.more()):
                self.at = len(self.text)
                content(self.take())
                return ""
