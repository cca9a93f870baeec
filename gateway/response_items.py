"""The output of a response: events of an answer in, items out, and the stream events that tell of them."""

from secrets import token_hex
from typing import Any

from gateway.parsers import Content, Event, Reasoning, ToolCallArguments, ToolCallStart
from gateway.parsers.calls import new_call_id
from gateway.response_input import encrypted
from gateway.response_tools import Offered, Tools, custom_text

StreamEvent = dict[str, Any]


class Output:
    """The items of one response, in the order in which the answer made them.

    Args:
        tools: what the answer may call.
        keeps_reasoning: reasoning has an ``encrypted_content``.
    """

    def __init__(self, tools: Tools, *, keeps_reasoning: bool = False) -> None:
        self.items: list[dict[str, Any]] = []
        self._tools = tools
        self._keeps_reasoning = keeps_reasoning
        self._text: list[str] = []  # of the open item
        self._logprobs: list[dict[str, Any]] = []
        self._open = ""  # the open item's type

    def push(self, event: Event, logprobs: list[dict[str, Any]]) -> list[StreamEvent]:
        """What one event adds."""
        match event:
            case Content() if self._tools.written:
                told = [] if self._open else self._called(self._tools.written, new_call_id())
                return [*told, self._gained("response.custom_tool_call_input.delta", event.text)]
            case Content():
                told = self._opened("message")
                self._logprobs += logprobs
                gained = self._gained("response.output_text.delta", event.text)
                return [*told, gained | {"content_index": 0, "logprobs": logprobs}]
            case Reasoning():
                told = self._opened("reasoning")
                return [*told, self._gained("response.reasoning_text.delta", event.text) | {"content_index": 0}]
            case ToolCallStart():
                return self.close() + self._called(self._tools.offered.get(event.name), event.id, event.name)
            case ToolCallArguments() if self._open == "custom_tool_call":
                self._text.append(event.text)  # JSON around the text: told once it is whole
                return []
            case ToolCallArguments():
                return [self._gained("response.function_call_arguments.delta", event.text)]

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
        match kind:
            case "function_call":
                item["arguments"] = text
                told.append(self._told("response.function_call_arguments.done", arguments=text, name=item["name"]))
            case "custom_tool_call":
                if not self._tools.written:
                    text = custom_text(text)
                    told.append(self._told("response.custom_tool_call_input.delta", delta=text))
                item["input"] = text
                told.append(self._told("response.custom_tool_call_input.done", input=text))
            case _:
                part = _part(kind, text, logprobs)
                item["content"] = [part]
                done, extra = "response.reasoning_text.done", {}
                if kind == "message":
                    done, extra = "response.output_text.done", {"logprobs": logprobs}
                elif self._keeps_reasoning:
                    item["encrypted_content"] = encrypted(text)
                told.append(self._told(done, content_index=0, text=text, **extra))
                told.append(self._told("response.content_part.done", content_index=0, part=part))
        told.append({"type": "response.output_item.done", "output_index": len(self.items) - 1, "item": dict(item)})
        return told

    def _called(self, tool: Offered | None, call_id: str, name: str = "") -> list[StreamEvent]:
        """Begin the item of a call; of a tool that nobody offered, under the name that the model gave it."""
        if tool is None:
            return self._opened("function_call", call_id=call_id, name=name)
        kind = "custom_tool_call" if tool.custom else "function_call"
        within = {"namespace": tool.namespace} if tool.namespace else {}
        return self._opened(kind, call_id=call_id, name=tool.tool.name, **within)

    def _opened(self, kind: str, **fields: str) -> list[StreamEvent]:
        """Begin an item, unless one of this kind is open."""
        if self._open == kind:
            return []
        told = self.close()
        self._open = kind
        item = {
            "id": f"{_PREFIX[kind]}_{token_hex(16)}",
            "type": kind,
            "status": "in_progress",
            **_EMPTY[kind],
            **fields,
        }
        self.items.append(item)
        told.append({"type": "response.output_item.added", "output_index": len(self.items) - 1, "item": dict(item)})
        if kind in ("message", "reasoning"):
            told.append(self._told("response.content_part.added", content_index=0, part=_part(kind, "", [])))
        return told

    def _gained(self, kind: str, text: str) -> StreamEvent:
        self._text.append(text)
        return self._told(kind, delta=text)

    def _told(self, kind: str, **fields: Any) -> StreamEvent:
        return {"type": kind, "item_id": self.items[-1]["id"], "output_index": len(self.items) - 1, **fields}


_PREFIX = {"message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"}
_EMPTY: dict[str, dict[str, Any]] = {
    "message": {"role": "assistant", "content": []},
    "reasoning": {"summary": [], "content": [], "encrypted_content": None},
    "function_call": {"arguments": ""},
    "custom_tool_call": {"input": ""},
}


def _part(kind: str, text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    if kind == "reasoning":
        return {"type": "reasoning_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}
