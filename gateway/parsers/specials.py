"""End-of-sequence tokens arrive as text where a family's markers do: the one that ends the answer is dropped."""

from gateway.parsers.events import Event, Parser
from gateway.parsers.tape import Markers, Reading, Tape

# Families whose markers are special tokens of the vocabulary, and what ends their answers.
ENDINGS: dict[str, tuple[str, ...]] = {
    "llama3": ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"),
    "mistral": ("</s>",),
    "deepseek": ("<｜end▁of▁sentence｜>",),
}


class EndingParser:
    """The text without the token that ends it, on to another parser. The same words elsewhere are content."""

    def __init__(self, inner: Parser, endings: tuple[str, ...]) -> None:
        self._inner = inner
        self._tape = Tape()
        self._events: list[Event] = []
        self._reading = self._read(Markers(*endings))

    def push(self, text: str) -> list[Event]:
        """What this piece settles."""
        self._tape.feed(text)
        next(self._reading)
        return self._drained()

    def finish(self) -> list[Event]:
        """What was still held."""
        self._tape.close()
        next(self._reading, None)
        return self._drained() + self._inner.finish()

    def _read(self, endings: Markers) -> Reading[None]:
        tape = self._tape
        while (yield from tape.until(endings, self._content)):
            if tape.at == len(tape.text) and not (yield from tape.more()):
                return

    def _content(self, text: str) -> None:
        if text:
            self._events += self._inner.push(text)

    def _drained(self) -> list[Event]:
        events, self._events = self._events, []
        return events
