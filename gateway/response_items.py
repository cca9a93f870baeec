"""The output of a response: events of an answer in, items out, and the stream events that tell of them."""

from typing import Any
from uuid import uuid4

from gateway.parsers import Content, Event, Reasoning, ToolCallArguments, ToolCallStart

StreamEvent = dict[str, Any]


class Output:
    """The items of one response, in the order in which the answer made them."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self._text: list[str] = []  # of the open item
        self._logprobs: list[dict[str, Any]] = []
        self._open = ""  # the open item's type

    def push(self, event: Event, logprobs: list[dict[str, Any]]) -> list[StreamEvent]:
        """What one event adds."""
        told: list[StreamEvent] = []
        match event:
            case Content():
                told += [*self._opened("message"), self._gained("response.output_text.delta", event.text)]
                told[-1] |= {"content_index": 0, "logprobs": logprobs}
                self._logprobs += logprobs
            case Reasoning():
                told += [*self._opened("reasoning"), self._gained("response.reasoning_text.delta", event.text)]
                told[-1]["content_index"] = 0
            case ToolCallStart():
                told += self.close() + self._opened("function_call", call_id=event.id, name=event.name)
            case ToolCallArguments():
                told.append(self._gained("response.function_call_arguments.delta", event.text))
        return told

    def close(self, status: str = "completed") -> list[StreamEvent]:
        """End the open item, if there is one."""
        if not self._open:
            return []
        kind, self._open = self._open, ""
        text, self._text = "".join(self._text), []
        logprobs, self._logprobs = self._logprobs, []
        item = self.items[-1]
        item["status"] = status
        told: list[StreamEvent] = []
        if kind == "function_call":
            item["arguments"] = text
            told.append(self._told("response.function_call_arguments.done", arguments=text, name=item["name"]))
        else:
            part = _part(kind, text, logprobs)
            item["content"] = [part]
            done = "response.output_text.done" if kind == "message" else "response.reasoning_text.done"
            extra = {"logprobs": logprobs} if kind == "message" else {}
            told.append(self._told(done, content_index=0, text=text, **extra))
            told.append(self._told("response.content_part.done", content_index=0, part=part))
        told.append({"type": "response.output_item.done", "output_index": len(self.items) - 1, "item": dict(item)})
        return told

    def _opened(self, kind: str, **fields: str) -> list[StreamEvent]:
        """Begin an item, unless one of this kind is open."""
        if self._open == kind:
            return []
        told = self.close()
        self._open = kind
        item = {"id": f"{_PREFIX[kind]}_{uuid4().hex}", "type": kind, "status": "in_progress", **_EMPTY[kind], **fields}
        self.items.append(item)
        told.append({"type": "response.output_item.added", "output_index": len(self.items) - 1, "item": dict(item)})
        if kind != "function_call":
            told.append(self._told("response.content_part.added", content_index=0, part=_part(kind, "", [])))
        return told

    def _gained(self, kind: str, text: str) -> StreamEvent:
        self._text.append(text)
        return self._told(kind, delta=text)

    def _told(self, kind: str, **fields: Any) -> StreamEvent:
        return {"type": kind, "item_id": self.items[-1]["id"], "output_index": len(self.items) - 1, **fields}


_PREFIX = {"message": "msg", "reasoning": "rs", "function_call": "fc"}
_EMPTY: dict[str, dict[str, Any]] = {
    "message": {"role": "assistant", "content": []},
    "reasoning": {"summary": [], "content": []},
    "function_call": {"arguments": ""},
}


def _part(kind: str, text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    if kind == "reasoning":
        return {"type": "reasoning_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}
