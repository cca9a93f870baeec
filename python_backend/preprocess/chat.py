"""A chat as the model's template takes it: content as text, arguments as mappings, tools for every template.

A template that takes no tools gets them in Hermes form: a section of the system message lists them,
earlier calls are ``<tool_call>`` texts of the assistant, and their results ``<tool_response>`` texts of
the user. The gateway reads the answer's calls in the same form (contract/chat.py decides).
"""

import json
from typing import Any

from contract.chat import takes_tools
from contract.errors import InvalidRequest, UnsupportedByEngine

Message = dict[str, Any]

_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
_TOOLS_SECTION = """# Tools

You may call functions to help with the user's request. Their signatures are within <tools></tools>:
<tools>
{tools}
</tools>

For each call, write a JSON object with the function's name and arguments within <tool_call></tool_call>:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


class Arguments(dict[str, Any]):
    """A call's arguments: members to a template that reads them, the JSON text to one that writes text."""

    def __init__(self, text: str, members: dict[str, Any]) -> None:
        super().__init__(members)
        self._text = text

    def __str__(self) -> str:
        return self._text

    def __add__(self, other: str) -> str:
        return self._text + other

    def __radd__(self, other: str) -> str:
        return other + self._text


def for_template(
    chat_template: str, messages: list[Message], tools: list[Any] | None
) -> tuple[list[Message], list[Any] | None]:
    """The messages and tools to render.

    Raises:
        InvalidRequest: naming the message's member that is not as it must be.
        UnsupportedByEngine: a part of a message is no text.
    """
    plain = [_with_text(at, message) for at, message in enumerate(messages)]
    if "developer" not in chat_template:
        plain = [message | {"role": "system"} if message["role"] == "developer" else message for message in plain]
    if takes_tools(chat_template):
        return plain, tools or None
    return _in_hermes_form(plain, tools or []), None


def _with_text(at: int, message: Message) -> Message:
    """A message whose content is text or None, and whose calls are whole."""
    message = message | {"content": _text(message.get("content"), f"messages[{at}].content")}
    calls = message.get("tool_calls")
    if calls is None:
        return {name: value for name, value in message.items() if name != "tool_calls"}
    if not isinstance(calls, list):
        raise InvalidRequest(f"messages[{at}].tool_calls must be a list", field="messages")
    return message | {"tool_calls": [_call(call, f"messages[{at}].tool_calls[{n}]") for n, call in enumerate(calls)]}


def _text(content: Any, where: str) -> str | None:
    if not isinstance(content, list):
        return content if content is None else str(content)
    texts = []
    for n, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(kind, str):
            raise InvalidRequest(f"{where}[{n}] must be an object with a type", field="messages")
        if kind not in _TEXT_PARTS:
            raise UnsupportedByEngine(f"{where}[{n}] is of type {kind[:40]}: this model reads text", field="messages")
        text = part.get(_TEXT_PARTS[kind])
        if not isinstance(text, str):
            raise InvalidRequest(f"{where}[{n}].{_TEXT_PARTS[kind]} must be text", field="messages")
        texts.append(text)
    return "\n".join(texts)


def _call(call: Any, where: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequest(f"{where} must be an object with a function that has a name", field="messages")
    arguments = function.get("arguments", "{}")
    if isinstance(arguments, dict):
        arguments = Arguments(json.dumps(arguments, ensure_ascii=False), arguments)
    elif isinstance(arguments, str):
        arguments = _parsed(arguments)
    else:
        raise InvalidRequest(f"{where}.function.arguments must be JSON text or an object", field="messages")
    return {**call, "function": {**function, "arguments": arguments}}


def _parsed(text: str) -> Arguments | str:
    """JSON text of an object as Arguments; what a model got wrong stays the text it wrote."""
    try:
        members = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return text
    return Arguments(text or "{}", members) if isinstance(members, dict) else text


def _in_hermes_form(messages: list[Message], tools: list[Any]) -> list[Message]:
    written: list[Message] = []
    answering = False  # the last message holds results of calls
    for message in messages:
        if message["role"] == "tool":
            result = f"<tool_response>\n{message['content'] or ''}\n</tool_response>"
            if answering:
                written[-1]["content"] += f"\n{result}"
            else:
                written.append({"role": "user", "content": result})
            answering = True
            continue
        answering = False
        texts = [message["content"] or "", *(_call_text(call["function"]) for call in message.get("tool_calls", []))]
        rest = {name: value for name, value in message.items() if name != "tool_calls"}
        written.append(rest | {"content": "\n".join(text for text in texts if text)})
    if not tools:
        return written
    section = _TOOLS_SECTION.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))
    if written[0]["role"] == "system":
        return [written[0] | {"content": f"{written[0]['content']}\n\n{section}"}, *written[1:]]
    return [{"role": "system", "content": section}, *written]


def _call_text(function: dict[str, Any]) -> str:
    name = json.dumps(function["name"], ensure_ascii=False)
    return f'<tool_call>\n{{"name": {name}, "arguments": {function["arguments"]}}}\n</tool_call>'
