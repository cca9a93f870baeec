"""The tools of a response: as the chat's, whose tools are all functions of one name, and back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_core import from_json

from gateway.errors import refuse
from gateway.schema.chat import Function, FunctionName
from gateway.schema.chat import NamedTool as ChatNamedTool
from gateway.schema.chat import Tool as ChatTool
from gateway.schema.response_tools import (
    AllowedTools,
    Choice,
    CustomTool,
    FunctionTool,
    GrammarFormat,
    NamedTool,
    NamespaceTool,
    Tool,
)

_INPUT = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Offered:
    """A tool that the model may call."""

    tool: FunctionTool | CustomTool
    namespace: str | None

    @property
    def custom(self) -> bool:
        """Whether it takes a text."""
        return isinstance(self.tool, CustomTool)

    @property
    def seen_as(self) -> str:
        """Its name for the model."""
        return seen_name(self.tool.name, self.namespace)

    def for_chat(self) -> ChatTool:
        """As the chat has it."""
        parameters = _INPUT if isinstance(self.tool, CustomTool) else self.tool.parameters
        function = Function(name=self.seen_as, description=self.tool.description, parameters=parameters)
        return ChatTool(type="function", function=function)


@dataclass(frozen=True)
class Tools:
    """What the model may call, and what it must."""

    offered: dict[str, Offered]  # by their names for the model
    choice: Literal["none", "auto", "required"] | ChatNamedTool | None = None
    regex: str | None = None  # what the input of the tool that must be called fits; it is then the answer's whole text
    written: Offered | None = None  # that tool


def tools_of(tools: Sequence[Tool] | None, choice: Choice | None) -> Tools:
    """The tools of a request.

    Raises:
        Refused: it names one that is not offered, or one cannot be held to its grammar.
    """
    offered = {each.seen_as: each for each in _offered(tools or ())}
    if isinstance(choice, AllowedTools):
        allowed = [_named(offered, each, f"tool_choice.tools[{at}]") for at, each in enumerate(choice.tools)]
        offered = {each.seen_as: each for each in allowed}
        return _without_grammars(Tools(offered, choice.mode))
    if isinstance(choice, NamedTool):
        named = _named(offered, choice, "tool_choice")
        form = named.tool.format if isinstance(named.tool, CustomTool) else None
        if isinstance(form, GrammarFormat):
            return Tools(offered, "auto", form.definition, named)
        return Tools(offered, ChatNamedTool(type="function", function=FunctionName(name=named.seen_as)))
    if choice == "required" and not offered:
        raise refuse("needs a tool that the model may call", param="tool_choice")
    return (
        Tools(offered, choice if offered else None) if choice == "none" else _without_grammars(Tools(offered, choice))
    )


def seen_name(name: str, namespace: str | None) -> str:
    """A tool's name for the model."""
    return f"{namespace}.{name}" if namespace else name


def custom_arguments(text: str) -> dict[str, Any]:
    """A text as the arguments of the function that the model sees."""
    return {"input": text}


def custom_text(arguments: str) -> str:
    """The text in a call's arguments, as far as they came."""
    try:
        found = from_json(arguments or "{}", allow_partial="trailing-strings")
    except ValueError:
        return arguments
    text = found.get("input", "") if isinstance(found, dict) else arguments
    return text if isinstance(text, str) else arguments


def _offered(tools: Sequence[Tool]) -> Iterator[Offered]:
    for tool in tools:
        if isinstance(tool, FunctionTool | CustomTool):
            yield Offered(tool, None)
        elif isinstance(tool, NamespaceTool):
            yield from (Offered(each, tool.name) for each in tool.tools)


def _named(offered: dict[str, Offered], wanted: NamedTool, param: str) -> Offered:
    found = offered.get(seen_name(wanted.name, wanted.namespace))
    if found is None or found.custom != (wanted.type == "custom"):
        raise refuse(f"names no tool of this request: {wanted.name!r:.80}", param=param)
    return found


def _without_grammars(tools: Tools) -> Tools:
    for each in tools.offered.values():
        if isinstance(each.tool, CustomTool) and isinstance(each.tool.format, GrammarFormat):
            raise refuse(
                f"{each.tool.name!r} has a grammar, which only a tool that tool_choice names is held to",
                param="tools",
                code="unsupported_parameter",
            )
    return tools
