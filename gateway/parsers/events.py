"""What a parser makes of an answer's text."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Content:
    """Text for the reader."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Text that the model wrote for itself."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallStart:
    """A call whose name is known; its arguments follow."""

    index: int  # from 0, in the order of the answer
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolCallArguments:
    """The next piece of a call's arguments: JSON text exactly as the model wrote it."""

    index: int
    text: str


Event = Content | Reasoning | ToolCallStart | ToolCallArguments


class Parser(Protocol):
    """One answer's text, in pieces of any size; the events, joined, do not depend on the pieces."""

    def push(self, text: str) -> list[Event]:
        """What this piece settles; may be nothing."""

    def finish(self) -> list[Event]:
        """What was still held, at the end of the answer."""
