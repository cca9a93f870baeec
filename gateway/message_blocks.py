"""The content of a message: events of an answer in, blocks out, and the stream events that tell of them."""

import base64
import hashlib
from typing import Any, Literal

from pydantic_core import from_json

from gateway.parsers import Content, Event, Reasoning, ToolCallArguments, ToolCallStart

StreamEvent = dict[str, Any]
Shown = Literal["whole", "signed", "not"]


class Blocks:
    """The blocks of one message, in the order in which the answer made them.

    Args:
        reasoning: shown whole, as a block with nothing but a signature, or not at all.
    """

    def __init__(self, reasoning: Shown = "whole") -> None:
        self.blocks: list[dict[str, Any]] = []
        self._reasoning = reasoning
        self._text: list[str] = []  # of the open block
        self._open = ""  # the open block's type

    def push(self, event: Event) -> list[StreamEvent]:
        """What one event adds."""
        match event:
            case Content():
                return [*self._opened("text", text=""), self._gained("text_delta", "text", event.text)]
            case Reasoning() if self._reasoning == "not":
                return []
            case Reasoning():
                told = self._opened("thinking", thinking="", signature="")
                gained = self._gained("thinking_delta", "thinking", event.text)
                return [*told, gained] if self._reasoning == "whole" else told
            case ToolCallStart():
                return [*self.close(), *self._opened("tool_use", id=event.id, name=event.name, input={})]
            case ToolCallArguments():
                return [self._gained("input_json_delta", "partial_json", event.text)]

    def close(self) -> list[StreamEvent]:
        """End the open block, if there is one."""
        if not self._open:
            return []
        kind, self._open = self._open, ""
        text, self._text = "".join(self._text), []
        block, at = self.blocks[-1], len(self.blocks) - 1
        told: list[StreamEvent] = []
        match kind:
            case "text":
                block["text"] = text
            case "thinking":
                block |= {"thinking": text if self._reasoning == "whole" else "", "signature": _signature(text)}
                told.append(_delta(at, "signature_delta", "signature", block["signature"]))
            case _:
                block["input"] = from_json(text, allow_partial=True) if text else {}  # cut: as their client reads it
        return [*told, {"type": "content_block_stop", "index": at}]

    def _opened(self, kind: str, **empty: Any) -> list[StreamEvent]:
        """Begin a block, unless one of this kind is open."""
        if self._open == kind:
            return []
        told = self.close()
        self._open = kind
        self.blocks.append({"type": kind, **empty})
        at = len(self.blocks) - 1
        told.append({"type": "content_block_start", "index": at, "content_block": dict(self.blocks[at])})
        return [*told, {"type": "ping"}] if at == 0 else told

    def _gained(self, kind: str, field: str, text: str) -> StreamEvent:
        self._text.append(text)
        return _delta(len(self.blocks) - 1, kind, field, text)


def _delta(at: int, kind: str, field: str, text: str) -> StreamEvent:
    return {"type": "content_block_delta", "index": at, "delta": {"type": kind, field: text}}


def _signature(text: str) -> str:
    """Clients drop reasoning that has none; nothing here asks for it back."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
