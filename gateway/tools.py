"""How a chat's answer is to be read: which tools the model sees, what it is held to, and which parser reads it."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from gateway.ask import Guide
from gateway.backend import Backend
from gateway.errors import refuse
from gateway.parsers import (
    GUIDED,
    NO_FAMILY,
    Parser,
    needs_special_tokens,
    parser_for,
    prompt_opens_reasoning,
    tags_of,
)
from gateway.schema.chat import AllowedToolsChoice, ChatBody, NamedTool, Tool


@dataclass(frozen=True)
class Reading:
    """How one chat's answers are read."""

    family: str
    calls: bool  # the answer may hold tool calls
    reasoning: bool  # the answer may begin with reasoning
    inside: bool  # the prompt has opened it
    tools: list[dict[str, Any]]  # for the chat template
    guides: list[Guide]
    one_call: bool  # parallel_tool_calls is false
    names: tuple[str, ...] = ()  # of the functions that a guided answer may call, or be other text

    @property
    def special_tokens(self) -> bool:
        """The markers to be read are special tokens."""
        return (self.calls or self.reasoning) and needs_special_tokens(self.family)

    @property
    def tags(self) -> tuple[str, str]:
        """What opens the reasoning in the answer, '' where the prompt has, and what closes it."""
        opening, closing = tags_of(self.family)
        return ("" if self.inside else opening), closing

    def parser(self) -> Parser | None:
        """A fresh parser; None where text is just text."""
        if not (self.calls or self.reasoning):
            return None
        return parser_for(self.family, tools=self.calls, reasoning=self.reasoning, inside=self.inside, names=self.names)


def reading_of(body: ChatBody, backend: Backend) -> Reading:
    """How a body's answers are to be read.

    Raises:
        Refused: it asks for what this deployment cannot do.
    """
    choice, offered = _allowed(body)
    tools = [] if choice == "none" else offered
    guides = _format_guide(body)
    family = backend.family
    names: tuple[str, ...] = ()
    if tools and choice != "auto":
        guides, family = [_call_guide(tools, choice, body.parallel_tool_calls is not False)], GUIDED
    elif tools and guides:
        guides, family = [_call_guide(tools, choice, body.parallel_tool_calls is not False, guides[0])], GUIDED
        names = tuple(tool.function.name for tool in tools)
    elif tools and family == NO_FAMILY:
        raise refuse(
            "this model's own form of tool calls is not known here; use tool_choice 'required' or a named function",
            param="tool_choice",
            code="unsupported_parameter",
        )
    variables = template_variables(body)
    begins = variables.get("add_generation_prompt", True)  # else it goes on in the middle of a message
    reasoning = backend.reasons and not guides and bool(begins)
    return Reading(
        family=family,
        calls=bool(tools),
        reasoning=reasoning,
        inside=reasoning and prompt_opens_reasoning(backend.template, variables, family),
        tools=[tool.model_dump(mode="json", exclude_none=True, exclude={"cache_control"}) for tool in tools],
        guides=guides,
        one_call=body.parallel_tool_calls is False,
        names=names,
    )


def template_variables(body: ChatBody) -> dict[str, Any]:
    """What the chat template is given: chat_template_kwargs, and the fields that stand for some of them.

    Raises:
        Refused: both are given, and differ.
    """
    variables = dict(body.chat_template_kwargs or {})
    for name in ("reasoning_effort", "add_generation_prompt", "continue_final_message"):
        value = getattr(body, name)
        if value is not None and variables.setdefault(name, value) != value:
            raise refuse(f"contradicts chat_template_kwargs.{name}: give one of them", param=name)
    if variables.get("reasoning_effort") == "none":
        variables.setdefault("enable_thinking", False)
    if variables.get("continue_final_message"):
        variables.setdefault("add_generation_prompt", False)
    return variables


def _allowed(body: ChatBody) -> tuple[Literal["none", "auto", "required"] | NamedTool, list[Tool]]:
    """The choice, and the tools that it is among.

    Raises:
        Refused: it allows a tool that there is not.
    """
    choice, tools = body.tool_choice or "auto", body.tools or []
    if not isinstance(choice, AllowedToolsChoice):
        return choice, tools
    allowed = {tool.function.name for tool in choice.allowed_tools.tools}
    if unknown := allowed - {tool.function.name for tool in tools}:
        raise refuse(f"names no tool of this request: {min(unknown)!r}", param="tool_choice")
    return choice.allowed_tools.mode, [tool for tool in tools if tool.function.name in allowed]


def _format_guide(body: ChatBody) -> list[Guide]:
    """What response_format asks for."""
    wanted = body.response_format
    if wanted is None or wanted.type == "text":
        return []
    if wanted.json_schema is None:
        return [Guide("json", "", "response_format")]
    schema = {"type": "object"} if wanted.json_schema.schema_ is None else wanted.json_schema.schema_
    return [Guide("json_schema", json.dumps(schema), "response_format")]


def _call_guide(tools: list[Tool], choice: str | NamedTool, parallel: bool, form: Guide | None = None) -> Guide:
    """The schema of the call, or the calls, that must be made; with ``form``, of them or of a text of that form."""
    if isinstance(choice, NamedTool):
        tools = [tool for tool in tools if tool.function.name == choice.function.name]
        if not tools:
            raise refuse(f"names no tool of this request: {choice.function.name!r}", param="tool_choice")
    definitions = {
        str(number): _moved(tool.function.parameters or {"type": "object", "properties": {}}, number)
        for number, tool in enumerate(tools)
    }
    calls = [_call_schema(tool, number) for number, tool in enumerate(tools)]
    call = calls[0] if len(calls) == 1 else {"anyOf": calls}
    several = parallel and not isinstance(choice, NamedTool)
    schema = {"type": "array", "items": call, "minItems": 1} if several else dict(call)
    if form:
        definitions["form"] = _moved(json.loads(form.text or '{"type": "object"}'), "form")
        schema = {"anyOf": [schema, {"$ref": "#/$defs/form"}]}
    return Guide("json_schema", json.dumps(schema | {"$defs": definitions}), form.field if form else "tool_choice")


def _call_schema(tool: Tool, number: int) -> dict[str, Any]:
    """The schema of one call; that of its arguments stands at the root."""
    return {
        "type": "object",
        "properties": {"name": {"const": tool.function.name}, "arguments": {"$ref": f"#/$defs/{number}"}},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _moved(schema: Any, name: int | str) -> Any:
    """A schema that stands under ``$defs`` of another: its references are from that one's root."""
    if isinstance(schema, list):
        return [_moved(item, name) for item in schema]
    if isinstance(schema, dict):
        return {
            key: f"#/$defs/{name}{value[1:]}"
            if key == "$ref" and isinstance(value, str) and value.startswith("#")
            else _moved(value, name)
            for key, value in schema.items()
        }
    return schema
