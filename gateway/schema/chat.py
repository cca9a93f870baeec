"""The body of POST /v1/chat/completions."""

from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Le
from pydantic import ConfigDict, Field, model_validator

from gateway.schema.common import AT_LEAST_ONE, WHOLE, Body, Choices, Many
from gateway.schema.decisions import HONOURED, Accepted, Honoured, Refused
from gateway.schema.refused import TEXT_ONLY
from gateway.schema.rules import all_of, both, either, has, is_one_of

FUNCTION_NAME = r"^[a-zA-Z0-9_.-]{1,128}$"
TOOLS_TO_CHOOSE = either(is_one_of("tool_choice", "none", "auto"), has("tools", type="array", minItems=1))
BESIDE = Accepted("kept by the client beside an earlier answer")
CACHED = Accepted("the prefix cache is always on")

Role = Literal["system", "developer", "user", "assistant", "tool"]


class TextPart(Body):
    """A part of a message's content."""

    type: Literal["text"]
    text: Annotated[str, HONOURED]
    cache_control: Annotated[dict[str, Any] | None, CACHED] = None


class RefusalPart(Body):
    """What an earlier answer said instead of an answer."""

    type: Literal["refusal"]
    refusal: Annotated[str, HONOURED]


class CalledFunction(Body):
    """A function that an earlier answer called."""

    name: Annotated[str, HONOURED]
    arguments: Annotated[str, HONOURED]
    parsed_arguments: Annotated[Any, BESIDE] = None


class ToolCall(Body):
    """A tool call of an earlier answer."""

    id: Annotated[str, HONOURED]
    type: Literal["function"] = "function"
    function: Annotated[CalledFunction, HONOURED]
    index: Annotated[int | None, Accepted("streams number their calls")] = None
    provider_specific_fields: Annotated[Any, BESIDE] = None


_CONTENT = has("content", type=["string", "array"])


class Message(Body):
    """One message of the conversation; one of an earlier answer may come back with all that clients keep beside it."""

    model_config = ConfigDict(
        json_schema_extra=either(
            has("role", const="assistant"),
            both(has("role", enum=["system", "developer", "user"]), _CONTENT),
            both(has("role", const="tool"), _CONTENT, has("tool_call_id", type="string", minLength=1)),
        )
    )

    role: Annotated[Role, HONOURED]
    content: Annotated[
        str | Many[TextPart | RefusalPart] | None, Honoured("an assistant's may be null, or left out")
    ] = None
    name: Annotated[str | None, Honoured("for templates that write it")] = None
    tool_calls: Annotated[Many[ToolCall] | None, HONOURED] = None
    tool_call_id: Annotated[str | None, HONOURED] = None
    reasoning_content: Annotated[str | None, Honoured("for templates that write earlier reasoning")] = None
    reasoning: Annotated[str | None, Honoured("another name for reasoning_content")] = None
    thinking_blocks: Annotated[Many[Any] | None, Accepted("the reasoning again, as litellm keeps it")] = None
    reasoning_details: Annotated[Many[Any] | None, Accepted("the reasoning again, as OpenRouter has it")] = None
    refusal: Annotated[str | None, Honoured("is the content where there is none")] = None
    annotations: Annotated[Many[Any] | None, BESIDE] = None
    parsed: Annotated[Any, BESIDE] = None
    id: Annotated[str | None, BESIDE] = None
    provider_specific_fields: Annotated[Any, BESIDE] = None
    cache_control: Annotated[dict[str, Any] | None, CACHED] = None
    audio: Annotated[Any, Refused(TEXT_ONLY)] = None
    function_call: Annotated[Any, Refused("is deprecated; send tool_calls")] = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.role == "tool" and not self.tool_call_id:
            raise ValueError("a tool message needs tool_call_id")
        if self.content is None and self.role != "assistant":
            raise ValueError(f"a {self.role} message needs content")
        return self


class Function(Body):
    """A function that the model may call."""

    name: Annotated[str, Field(pattern=FUNCTION_NAME), HONOURED]
    description: Annotated[str | None, HONOURED] = None
    parameters: Annotated[dict[str, Any] | None, HONOURED] = None
    strict: Annotated[bool | None, Accepted("a call that must be made always fits its schema")] = None


class Tool(Body):
    """A tool that the model may use."""

    type: Literal["function"]
    function: Annotated[Function, HONOURED]
    cache_control: Annotated[dict[str, Any] | None, CACHED] = None


class FunctionName(Body):
    """Which function."""

    name: Annotated[str, HONOURED]


class NamedTool(Body):
    """The tool that must be used."""

    type: Literal["function"]
    function: Annotated[FunctionName, HONOURED]


class AllowedTools(Body):
    """Some of the tools, and whether one of them must be used."""

    mode: Annotated[Literal["auto", "required"], HONOURED]
    tools: Annotated[Many[NamedTool], Field(min_length=1), HONOURED]


class AllowedToolsChoice(Body):
    """A choice among some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: Annotated[AllowedTools, Honoured("the model sees no other tool")]


class JsonSchema(Body):
    """A schema that the answer must fit."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$"), Accepted("names the schema to the model's provider")]
    description: Annotated[str | None, Accepted("the model sees the schema's effect only")] = None
    schema_: Annotated[dict[str, Any] | None, HONOURED] = Field(None, alias="schema")
    strict: Annotated[bool | None, Accepted("the answer always fits")] = None


class ResponseFormat(Body):
    """What the answer's text must be."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Annotated[JsonSchema | None, HONOURED] = None

    model_config = ConfigDict(
        json_schema_extra=either(
            both(has("type", const="json_schema"), has("json_schema", type="object")),
            both(has("type", enum=["text", "json_object"]), is_one_of("json_schema")),
        )
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema belongs to type 'json_schema', and only to it")
        return self


class ChatBody(Choices):
    """A chat to be continued."""

    model_config = ConfigDict(
        json_schema_extra=all_of(
            either(is_one_of("top_logprobs", 0), has("logprobs", const=True)),
            either(is_one_of("add_generation_prompt", False), is_one_of("continue_final_message", False)),
            TOOLS_TO_CHOOSE,
        )
    )

    messages: Annotated[Many[Message], Field(min_length=1), HONOURED]
    max_completion_tokens: Annotated[int | None, *AT_LEAST_ONE, WHOLE, HONOURED] = None
    logprobs: Annotated[bool | None, HONOURED] = None
    top_logprobs: Annotated[int | None, Ge(0), Le(20), WHOLE, HONOURED] = None
    tools: Annotated[Many[Tool] | None, HONOURED] = None
    tool_choice: Annotated[Literal["none", "auto", "required"] | NamedTool | AllowedToolsChoice | None, HONOURED] = None
    parallel_tool_calls: Annotated[bool | None, HONOURED] = None
    response_format: Annotated[ResponseFormat | None, HONOURED] = None
    chat_template_kwargs: Annotated[dict[str, Any] | None, HONOURED] = None
    modalities: Annotated[Any, Refused(TEXT_ONLY, ["text"])] = None
    audio: Annotated[Any, Refused(TEXT_ONLY)] = None
    functions: Annotated[Any, Refused("is deprecated; use tools", [])] = None
    function_call: Annotated[Any, Refused("is deprecated; use tool_choice", "auto", "none")] = None
    prediction: Annotated[Any, Refused("predicted outputs are not supported; leave it out")] = None
    reasoning_effort: Annotated[
        str | None,
        Honoured("given to the template; `none` is `enable_thinking: false` too. A template may know neither"),
    ] = None
    add_generation_prompt: Annotated[bool | None, Honoured("given to the template")] = None
    continue_final_message: Annotated[bool | None, Honoured("the answer goes on where the last message ends")] = None
    reasoning: Annotated[Any, Refused("send reasoning_effort, or what the template knows in chat_template_kwargs")] = (
        None
    )
    include_reasoning: Annotated[Any, Refused("reasoning is always told apart; leave it out", True)] = None
    separate_reasoning: Annotated[Any, Refused("reasoning is always told apart; leave it out", True)] = None
    stream_reasoning: Annotated[Any, Refused("reasoning is streamed as the answer is; leave it out", True)] = None
    chat_template: Annotated[Any, Refused("the deployment's own template applies; send text to /v1/completions")] = None
    documents: Annotated[Any, Refused("send them in chat_template_kwargs where the template knows them", [])] = None
    verbosity: Annotated[Any, Refused("is not supported; ask for it in the prompt", "medium")] = None
    web_search_options: Annotated[Any, Refused("no search runs here; offer it as a tool and run it")] = None
    moderation: Annotated[Any, Refused("there is no moderation here")] = None
    echo: Annotated[Any, Refused("the prompt of a chat is not repeated", False)] = None
    add_special_tokens: Annotated[Any, Refused("the chat template writes them", False)] = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs")
        if self.max_tokens and self.max_completion_tokens not in (None, self.max_tokens):
            raise ValueError("max_tokens and max_completion_tokens contradict each other")
        if self.add_generation_prompt and self.continue_final_message:
            raise ValueError("add_generation_prompt and continue_final_message contradict each other")
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise ValueError("tool_choice needs tools")
        return self
