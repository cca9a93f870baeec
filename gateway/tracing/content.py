"""Prompts and answers in the shape of OpenTelemetry's conventions: JSON, messages of parts."""

import json
from typing import Any

from clients.request import Inputs


def messages_of(inputs: Inputs) -> str:
    """What was asked; of a prompt that came as ids, those."""
    if "messages" in inputs:
        return _json([_message(message) for message in json.loads(inputs["messages"])])
    return _json([{"role": "user", "parts": [_text(inputs.get("text_input") or list(inputs["input_ids"]))]}])


def said(text: str, finish_reason: str) -> str:
    """What the model answered, as it wrote it: its tool calls are text."""
    return _json([{"role": "assistant", "parts": [_text(text)], "finish_reason": finish_reason}])


def _message(message: dict[str, Any]) -> dict[str, Any]:
    content, calls = message.get("content"), message.get("tool_calls", ())
    if message["role"] == "tool":
        parts = [{"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content}]
    else:
        parts = [_text(content)] if content else []
    for call in calls:
        asked = call["function"]
        parts.append(
            {"type": "tool_call", "id": call.get("id"), "name": asked["name"], "arguments": asked["arguments"]}
        )
    return {"role": message["role"], "parts": parts}


def _text(content: Any) -> dict[str, Any]:
    return {"type": "text", "content": content if isinstance(content, str) else _json(content)}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
