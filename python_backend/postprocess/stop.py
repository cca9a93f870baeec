"""Stop strings, found in text across any number of tokens and chunks.

Text that could still become a stop string is held back; a stop string and what follows it never come
out. Where the text is cut into chunks makes no difference to what comes out.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class StopMatcher:
    """The stop strings of one stream."""

    stops: tuple[str, ...]
    _held: str = ""

    def push(self, text: str) -> tuple[str, str]:
        """(the text that may go out, the stop string that was found or '').

        The stop string that is complete first wins; of two complete at the same character, the longer.
        """
        if not self.stops:
            return text, ""
        text = self._held + text
        found = [(at + len(stop), at, stop) for stop in self.stops if (at := text.find(stop)) >= 0]
        if found:
            self._held = ""
            _, at, stop = min(found)
            return text[:at], stop
        keep = max(_overlap(text, stop) for stop in self.stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], ""

    def flush(self) -> str:
        """The text still held, at the end of a stream without a stop string."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest proper prefix of ``stop`` that ends ``text``."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
