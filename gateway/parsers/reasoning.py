"""Reasoning, split from the answer: ``<think>…</think>`` at its beginning, or opened by the prompt already."""

import functools
import json
from collections.abc import Mapping
from typing import Any

from gateway.parsers.events import Event, Parser, Reasoning
from gateway.parsers.tape import Markers, Reading, Tape
from gateway.probe import rendered

THINK = ("<think>", "</think>")
_TAGS = {"mistral": ("[THINK]", "[/THINK]")}
_CACHED = 1024  # characters of variables: the cache holds what clients send


def tags_of(family: str) -> tuple[str, str]:
    """What opens and closes a family's reasoning."""
    return _TAGS.get(family, THINK)


def writes_reasoning(chat_template: str, family: str) -> bool:
    """True where the template knows of reasoning, so that its model writes some."""
    return tags_of(family)[1] in chat_template


def prompt_opens_reasoning(chat_template: str, variables: Mapping[str, Any], family: str = "") -> bool:
    """True where the prompt that this template makes leaves the reasoning open.

    Args:
        variables: the request's chat_template_kwargs: some templates open it only if asked to.
    """
    tag = tags_of(family)[0]
    if tag not in chat_template:
        return False
    given = json.dumps(variables, sort_keys=True)
    return _opens(chat_template, given, tag) if len(given) < _CACHED else _opens.__wrapped__(chat_template, given, tag)


@functools.lru_cache(maxsize=256)
def _opens(chat_template: str, variables: str, tag: str) -> bool:
    prompt = rendered(chat_template, [{"role": "user", "content": "?"}], json.loads(variables))
    return (prompt or "").rstrip().endswith(tag)  # where it refuses, preprocess will say what is wrong


class ReasoningParser:
    """Reasoning out, the rest on to another parser. Blanks around the tags belong to neither."""

    def __init__(self, inner: Parser, tags: tuple[str, str], *, inside: bool) -> None:
        self._inner = inner
        self._tape = Tape()
        self._events: list[Event] = []
        self._blanks = ""
        self._reading = self._read(*tags, inside)

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

    def _read(self, opening: str, closing: str, inside: bool) -> Reading[None]:
        tape = self._tape
        if (yield from tape.literal(opening)) or inside:
            yield from tape.peek()
            tape.take()
            if (yield from tape.until(Markers(closing), self._reasoning)):
                yield from tape.peek()
                tape.take()
            elif self._blanks:  # cut short: the blanks are no framing
                self._events.append(Reasoning(self._blanks))
        yield from tape.until(Markers(), self._content)

    def _reasoning(self, text: str) -> None:
        text = self._blanks + text
        solid = text.rstrip()
        self._blanks = text[len(solid) :]
        if solid:
            self._events.append(Reasoning(solid))

    def _content(self, text: str) -> None:
        if text:
            self._events += self._inner.push(text)

    def _drained(self) -> list[Event]:
        events, self._events = self._events, []
        return events
