"""The bodies of POST /v1/messages and /v1/messages/count_tokens: Anthropic's."""

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from gateway.schema.chat import FUNCTION_NAME
from gateway.schema.common import AT_LEAST_ONE, WHOLE, Body, Many, bounds
from gateway.schema.decisions import HONOURED, Accepted, Honoured, Refused
from gateway.schema.effort import EFFORT, Effort
from gateway.schema.message_blocks import CacheControl, InputMessage, TextBlock
from gateway.schema.rules import all_of, both, either, has, is_one_of

_NO_STORE = "nothing is stored here; send the whole conversation"
_OUR_TOOLS_ONLY = "no tool runs here; offer one of your own, with an input_schema, and run it"


class Tool(Body):
    """A tool that the model may use and the client runs."""

    type: Annotated[Literal["custom"] | None, Honoured("a tool of the server's own is refused by name")] = None
    name: Annotated[str, Field(pattern=FUNCTION_NAME), HONOURED]
    description: Annotated[str | None, HONOURED] = None
    input_schema: Annotated[dict[str, Any], HONOURED]
    input_examples: Annotated[Many[dict[str, Any]] | None, Honoured("as the schema's `examples`")] = None
    strict: Annotated[bool | None, Accepted("calls that must be made fit their schema anyway")] = None
    allowed_callers: Annotated[Any, Refused("tools are called by the model alone", ["direct"])] = None
    defer_loading: Annotated[Any, Refused("there is no tool search here; leave out what is not needed", False)] = None
    eager_input_streaming: Annotated[bool | None, Accepted("inputs are always streamed as they come")] = None
    cache_control: CacheControl = None

    @model_validator(mode="before")
    @classmethod
    def _ours_to_call(cls, given: Any) -> Any:
        kind = given.get("type") if isinstance(given, dict) else None
        if kind not in (None, "custom"):
            raise ValueError(f"a tool of type {kind!r:.60} is Anthropic's: {_OUR_TOOLS_ONLY}")
        return given


class ToolChoice(Body):
    """Whether a tool must be used."""

    model_config = ConfigDict(
        json_schema_extra=either(
            both(has("type", const="tool"), has("name", type="string")),
            {"properties": {"type": {"enum": ["auto", "any", "none"]}, "name": {"type": "null"}}},
        )
    )

    type: Literal["auto", "any", "tool", "none"]
    name: Annotated[str | None, HONOURED] = None
    disable_parallel_tool_use: Annotated[bool | None, HONOURED] = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.type == "tool") != (self.name is not None):
            raise ValueError("name belongs to type 'tool', and only to it")
        return self


class Thinking(Body):
    """Whether the model reasons before it answers."""

    type: Annotated[
        Literal["enabled", "disabled", "adaptive"],
        Honoured(
            "told to the chat template as `enable_thinking` and `thinking`; where the model reasons nevertheless, "
            "`disabled` leaves it out of the answer"
        ),
    ]
    budget_tokens: Annotated[int | None, WHOLE, Accepted("a target; max_tokens is the bound")] = None
    display: Annotated[Literal["summarized", "omitted"] | None, Honoured("summarized: the whole reasoning")] = None


class OutputFormat(Body):
    """What the answer's text must be."""

    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema"), HONOURED]


class OutputConfig(Body):
    """How the answer is made."""

    effort: Annotated[Effort | None, Honoured(EFFORT)] = None
    format: Annotated[OutputFormat | None, HONOURED] = None


class ContextEdit(Body):
    """How the provider may shorten the conversation."""

    type: Annotated[Literal["clear_thinking_20251015"], Accepted("chat templates leave earlier reasoning out")]
    keep: Annotated[Any, Accepted("the chat template decides")] = None


class ContextManagement(Body):
    """How the provider may shorten the conversation."""

    edits: Annotated[Many[ContextEdit] | None, Honoured("beyond these edits the context is never shortened")] = None


class CountBody(Body):
    """A conversation, to be counted."""

    model_config = ConfigDict(
        json_schema_extra=all_of(
            either(
                {"properties": {"tool_choice": {"anyOf": [{"type": "null"}, is_one_of("type", "auto", "none")]}}},
                has("tools", type="array", minItems=1),
            ),
            either(
                is_one_of("output_format"),
                {"properties": {"output_config": {"anyOf": [{"type": "null"}, is_one_of("format")]}}},
            ),
        )
    )

    model: Annotated[str, Honoured("a deployment's name")]
    messages: Annotated[Many[InputMessage], Field(min_length=1), HONOURED]
    system: Annotated[str | Many[TextBlock] | None, HONOURED] = None
    tools: Annotated[Many[Tool] | None, HONOURED] = None
    tool_choice: Annotated[ToolChoice | None, HONOURED] = None
    thinking: Annotated[Thinking | None, HONOURED] = None
    output_config: Annotated[OutputConfig | None, HONOURED] = None
    output_format: Annotated[OutputFormat | None, Honoured("the older name of output_config.format")] = None
    context_management: Annotated[ContextManagement | None, HONOURED] = None
    cache_control: CacheControl = None
    betas: Annotated[Many[str] | None, Accepted("as the header anthropic-beta: none is needed")] = None
    user_profile_id: Annotated[str | None, Accepted("names who asks to the provider")] = None
    workspace_id: Annotated[str | None, Accepted("names who asks to the provider")] = None
    mcp_servers: Annotated[Any, Refused(_OUR_TOOLS_ONLY, [])] = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.tool_choice and self.tool_choice.type in ("any", "tool") and not self.tools:
            raise ValueError("tool_choice needs tools")
        if self.output_format and self.output_config and self.output_config.format:
            raise ValueError("output_format contradicts output_config.format: give one of them")
        return self


class MessagesBody(CountBody):
    """A conversation, to be continued."""

    max_tokens: Annotated[
        int,
        *AT_LEAST_ONE,
        WHOLE,
        Honoured("a bound; the context may end it sooner"),
    ]
    stream: Annotated[bool | None, HONOURED] = None
    temperature: Annotated[float | None, *bounds("temperature"), Honoured("1 where it is not given")] = None
    top_p: Annotated[float | None, *bounds("top_p"), HONOURED] = None
    top_k: Annotated[int | None, Field(ge=-1, lt=2**31), WHOLE, Honoured("-1 and 0: off")] = None
    stop_sequences: Annotated[
        Many[Annotated[str, Field(min_length=1)]] | None,
        Field(max_length=16),
        Honoured("the one that ended the answer comes back"),
    ] = None
    metadata: Annotated[dict[str, Any] | None, Accepted("user_id names the end user; nothing is kept here")] = None
    service_tier: Annotated[Literal["auto", "standard_only"] | None, Accepted("there is one tier")] = None
    diagnostics: Annotated[dict[str, Any] | None, Accepted("they come back null: the prefix cache tells none")] = None
    speed: Annotated[Any, Refused("there is one speed", "standard")] = None
    inference_geo: Annotated[Any, Refused("there is one place, this one", "not_available")] = None
    container: Annotated[Any, Refused(_OUR_TOOLS_ONLY)] = None
    fallbacks: Annotated[Any, Refused("a request names its one model", [])] = None
    thread: Annotated[Any, Refused(_NO_STORE)] = None
    compaction: Annotated[Any, Refused("the conversation is never shortened here; shorten it")] = None
