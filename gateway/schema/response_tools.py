"""The tools of /v1/responses: what the model may call, and what must be called."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, Tag

from gateway.schema.chat import FUNCTION_NAME
from gateway.schema.common import Body, Many
from gateway.schema.decisions import HONOURED, Accepted, Honoured, Refused
from gateway.schema.kinds import kinds, only

_NO_SUCH_TOOL = "no tool runs here; offer a function of your own and run it"
_MODEL_ALONE = Refused("tools are called by the model alone", ["direct"])
_NO_SEARCH = Refused("there is no tool search here; leave out what is not needed", False)

Callers = Annotated[Any, _MODEL_ALONE]
Deferred = Annotated[Any, _NO_SEARCH]
Name = Annotated[str, Field(pattern=FUNCTION_NAME), HONOURED]


class FunctionTool(Body):
    """A function that the model may call."""

    type: Literal["function"]
    name: Name
    description: Annotated[str | None, HONOURED] = None
    parameters: Annotated[dict[str, Any] | None, HONOURED] = None
    strict: Annotated[bool | None, Accepted("a call that must be made always fits its schema")] = None
    output_schema: Annotated[dict[str, Any] | None, Accepted("what a function gives is the caller's affair")] = None
    allowed_callers: Callers = None
    defer_loading: Deferred = None


class FreeFormat(Body):
    """Any text."""

    type: Literal["text"]


class GrammarFormat(Body):
    """Text of a form."""

    type: Literal["grammar"]
    syntax: Annotated[Literal["regex"], Honoured("lark is refused: no engine here has it")]
    definition: Annotated[str, Field(min_length=1), Honoured("where tool_choice names the tool, else refused")]


class CustomTool(Body):
    """A tool that takes a text."""

    type: Literal["custom"]
    name: Name
    description: Annotated[str | None, HONOURED] = None
    format: Annotated[
        Annotated[
            Annotated[FreeFormat, Tag("FreeFormat")] | Annotated[GrammarFormat, Tag("GrammarFormat")],
            *kinds(_NO_SUCH_TOOL, text="FreeFormat", grammar="GrammarFormat"),
        ]
        | None,
        HONOURED,
    ] = None
    allowed_callers: Callers = None
    defer_loading: Deferred = None


class NamespaceTool(Body):
    """Tools under one name."""

    type: Literal["namespace"]
    name: Name
    description: Annotated[str | None, Accepted("the tools have their own")] = None
    tools: Annotated[
        Many[
            Annotated[
                Annotated[FunctionTool, Tag("FunctionTool")] | Annotated[CustomTool, Tag("CustomTool")],
                *kinds(_NO_SUCH_TOOL, function="FunctionTool", custom="CustomTool"),
            ]
        ],
        Honoured("the model sees each as namespace.name"),
    ]


class WebSearchTool(Body):
    """A search by the provider: offered, it need not be used, and the model is not told of it."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11"]


_WEB_SEARCH = dict.fromkeys(
    ("web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11"), "WebSearchTool"
)
Tool = Annotated[
    Annotated[FunctionTool, Tag("FunctionTool")]
    | Annotated[CustomTool, Tag("CustomTool")]
    | Annotated[NamespaceTool, Tag("NamespaceTool")]
    | Annotated[WebSearchTool, Tag("WebSearchTool")],
    *kinds(_NO_SUCH_TOOL, function="FunctionTool", custom="CustomTool", namespace="NamespaceTool", **_WEB_SEARCH),
]


class NamedTool(Body):
    """The tool that must be called."""

    type: Literal["function", "custom"]
    name: Annotated[str, HONOURED]
    namespace: Annotated[str | None, HONOURED] = None


class AllowedTools(Body):
    """The tools that may be called, of those that are offered."""

    type: Literal["allowed_tools"]
    mode: Annotated[Literal["auto", "required"], HONOURED]
    tools: Annotated[Many[NamedTool], Field(min_length=1), Honoured("the model sees these alone")]


Choice = Annotated[
    Literal["none", "auto", "required"]
    | Annotated[
        Annotated[NamedTool, Tag("NamedTool")] | Annotated[AllowedTools, Tag("AllowedTools")],
        *kinds(_NO_SUCH_TOOL, function="NamedTool", custom="NamedTool", allowed_tools="AllowedTools"),
    ],
    only(_NO_SUCH_TOOL, "function", "custom", "allowed_tools"),
]
