"""The body of POST /v1/responses."""

from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Le
from pydantic import ConfigDict, Field, model_validator

from gateway.schema.chat import TOOLS_TO_CHOOSE
from gateway.schema.common import AT_LEAST_ONE, WHOLE, Body, Many, Sampling
from gateway.schema.decisions import HONOURED, Accepted, Honoured, Refused
from gateway.schema.effort import EFFORT, Effort
from gateway.schema.response_input import Item
from gateway.schema.response_tools import Choice, Tool
from gateway.schema.rules import all_of, either, has, is_one_of

LOGPROBS = "message.output_text.logprobs"
ENCRYPTED = "reasoning.encrypted_content"
_NO_STORE = "answers are not stored here; send the whole conversation"


class TextFormat(Body):
    """What the answer's text must be."""

    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[str | None, Accepted("names the schema to the model's provider")] = None
    description: Annotated[str | None, Accepted("the model sees the schema's effect only")] = None
    schema_: Annotated[dict[str, Any] | None, HONOURED] = Field(None, alias="schema")
    strict: Annotated[bool | None, Accepted("the answer always fits")] = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.type == "json_schema") != (self.schema_ is not None):
            raise ValueError("schema belongs to type 'json_schema', and only to it")
        return self


class TextConfig(Body):
    """How the answer is written."""

    format: Annotated[TextFormat | None, HONOURED] = None
    verbosity: Annotated[
        Literal["low", "medium", "high"] | None, Honoured("told to the chat template as `verbosity`")
    ] = None


class Reasoning(Body):
    """How the model reasons before it answers."""

    effort: Annotated[Effort | None, Honoured(EFFORT)] = None
    summary: Annotated[str | None, Accepted("the answer has the whole reasoning")] = None
    generate_summary: Annotated[str | None, Accepted("the answer has the whole reasoning")] = None
    context: Annotated[str | None, Accepted("the chat template decides which reasoning stays")] = None
    mode: Annotated[Any, Refused("there is one mode", "standard")] = None


class ResponsesStreamOptions(Body):
    """What a stream carries beside the answer."""

    include_obfuscation: Annotated[Any, Refused("streams are not padded", False)] = None


class ResponsesBody(Sampling):
    """A response to be made."""

    model_config = ConfigDict(
        json_schema_extra=all_of(
            either(is_one_of("top_logprobs", 0), has("include", type="array", contains={"const": LOGPROBS})),
            TOOLS_TO_CHOOSE,
        )
    )

    input: Annotated[
        Annotated[str, Field(min_length=1)] | Annotated[Many[Item], Field(min_length=1)],
        HONOURED,
    ]
    instructions: Annotated[str | None, HONOURED] = None
    max_output_tokens: Annotated[int | None, *AT_LEAST_ONE, WHOLE, HONOURED] = None
    tools: Annotated[Many[Tool] | None, Honoured("but for web_search, which the model is not told of")] = None
    tool_choice: Annotated[Choice | None, HONOURED] = None
    parallel_tool_calls: Annotated[bool | None, HONOURED] = None
    text: Annotated[TextConfig | None, HONOURED] = None
    include: Annotated[
        Many[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None,
        Honoured("reasoning is encoded, not encrypted: it is no secret here"),
    ] = None
    top_logprobs: Annotated[int | None, Ge(0), Le(20), WHOLE, HONOURED] = None
    chat_template_kwargs: Annotated[dict[str, Any] | None, HONOURED] = None
    stream_options: Annotated[ResponsesStreamOptions | None, HONOURED] = None
    truncation: Annotated[Literal["auto", "disabled"] | None, Honoured("nothing is ever cut off")] = None
    client_metadata: Annotated[dict[str, Any] | None, Accepted("tells the provider of the client")] = None
    background: Annotated[Any, Refused("a request runs while its connection is open", False)] = None
    previous_response_id: Annotated[Any, Refused(_NO_STORE)] = None
    conversation: Annotated[Any, Refused(_NO_STORE)] = None
    prompt: Annotated[Any, Refused("stored prompts are not supported; send instructions and input")] = None
    max_tool_calls: Annotated[Any, Refused("no tool runs here; the caller runs them all")] = None
    reasoning: Annotated[Reasoning | None, HONOURED] = None
    context_management: Annotated[Any, Refused("the context is never shortened here; shorten the input")] = None
    moderation: Annotated[Any, Refused("there is no moderation here")] = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.top_logprobs and LOGPROBS not in (self.include or ()):
            raise ValueError(f"top_logprobs needs include: [{LOGPROBS!r}]")
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise ValueError("tool_choice needs tools")
        return self
