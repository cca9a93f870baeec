"""Where stop strings are looked for: not in what the model writes for itself before its answer."""

from dataclasses import dataclass
from typing import Protocol

from python_backend.postprocess.stop import StopMatcher


class Stops(Protocol):
    """Text in; out comes what may go to the client, and the stop string that ended it."""

    def push(self, text: str) -> tuple[str, str]:
        """(the text that may go out, the stop string that was found or '')."""

    def flush(self) -> str:
        """The text still held, at the end of the stream."""


def after_reasoning(stops: StopMatcher, tags: tuple[str, ...]) -> Stops:
    """The stop strings of a stream that may begin with reasoning.

    Args:
        tags: what opens it ('': the prompt has) and what closes it; (): there is none.
    """
    if not tags:
        return stops
    opening, closing = tags
    return _AfterReasoning(stops, opening, closing)


@dataclass(slots=True)
class _AfterReasoning:
    stops: StopMatcher
    opening: str
    closing: str
    _held: str = ""  # the beginning of an answer, while it may still open the reasoning
    _begun: bool = False  # the reasoning has
    _over: bool = False  # stop strings count from here on
    _tail: str = ""  # of the reasoning: what may begin its closing

    def push(self, text: str) -> tuple[str, str]:
        """The text that may go out; the reasoning is never held back."""
        if not (self._begun or self._over):
            self._held += text
            start = self._held.lstrip()
            if len(start) < len(self.opening) and self.opening.startswith(start):
                return "", ""
            text, self._held = self._held, ""
            self._begun = start.startswith(self.opening)
            self._over = not self._begun
        if self._over:
            return self.stops.push(text)
        known = self._tail + text
        at = known.find(self.closing)
        if at < 0:
            self._tail = known[max(0, len(known) - len(self.closing) + 1) :]
            return text, ""
        self._over = True
        end = at + len(self.closing) - len(self._tail)
        answer, stopped = self.stops.push(text[end:])
        return text[:end] + answer, stopped

    def flush(self) -> str:
        """The text still held, at the end of the stream."""
        held, self._held = self._held, ""
        return self.stops.push(held)[0] + self.stops.flush()
