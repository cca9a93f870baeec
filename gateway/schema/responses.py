"""The body of POST /v1/responses."""

from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Le
from pydantic import Field, model_validator

from gateway.schema.chat import FUNCTION_NAME
from gateway.schema.common import WHOLE, Body, Sampling, bounds
from gateway.schema.decisions import HONOURED, Accepted, Refused

LOGPROBS = "message.output_text.logprobs"
Status = Literal["in_progress", "completed", "incomplete"]
OF_AN_ANSWER = Accepted("of an earlier answer")
_NO_STORE = "answers are not stored here; send the whole conversation"


class InputText(Body):
    """A part of a message."""

    type: Literal["input_text", "output_text"]
    text: Annotated[str, HONOURED]
    annotations: Annotated[list[Any] | None, Accepted("of an earlier answer")] = None
    logprobs: Annotated[list[Any] | None, Accepted("of an earlier answer")] = None


class InputRefusal(Body):
    """What an earlier answer said instead of an answer."""

    type: Literal["refusal"]
    refusal: Annotated[str, HONOURED]


class InputMessage(Body):
    """A message of the conversation."""

    type: Literal["message"] = "message"
    role: Annotated[Literal["user", "assistant", "system", "developer"], HONOURED]
    content: Annotated[str | list[InputText | InputRefusal], HONOURED]
    id: Annotated[str | None, OF_AN_ANSWER] = None
    status: Annotated[Status | None, OF_AN_ANSWER] = None
    phase: Annotated[Literal["commentary", "final_answer"] | None, OF_AN_ANSWER] = None


class InputCall(Body):
    """A function call of an earlier answer."""

    type: Literal["function_call"]
    call_id: Annotated[str, HONOURED]
    name: Annotated[str, HONOURED]
    arguments: Annotated[str, HONOURED]
    id: Annotated[str | None, OF_AN_ANSWER] = None
    status: Annotated[Status | None, OF_AN_ANSWER] = None


class InputCallOutput(Body):
    """What a function gave."""

    type: Literal["function_call_output"]
    call_id: Annotated[str, HONOURED]
    output: Annotated[str | list[InputText], HONOURED]
    id: Annotated[str | None, OF_AN_ANSWER] = None
    status: Annotated[Status | None, OF_AN_ANSWER] = None


class InputReasoning(Body):
    """The reasoning of an earlier answer; chat templates leave it out of the prompt."""

    type: Literal["reasoning"]
    id: Annotated[str | None, OF_AN_ANSWER] = None
    summary: Annotated[list[Any] | None, OF_AN_ANSWER] = None
    content: Annotated[list[Any] | None, OF_AN_ANSWER] = None
    encrypted_content: Annotated[Any, Refused("nothing here was encrypted")] = None
    status: Annotated[Status | None, OF_AN_ANSWER] = None


class FunctionTool(Body):
    """A function that the model may call."""

    type: Literal["function"]
    name: Annotated[str, Field(pattern=FUNCTION_NAME), HONOURED]
    description: Annotated[str | None, HONOURED] = None
    parameters: Annotated[dict[str, Any] | None, HONOURED] = None
    strict: Annotated[bool | None, Accepted("a call that must be made always fits its schema")] = None


class NamedFunction(Body):
    """The function that must be called."""

    type: Literal["function"]
    name: Annotated[str, HONOURED]


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


class ResponsesStreamOptions(Body):
    """What a stream carries beside the answer."""

    include_obfuscation: Annotated[Any, Refused("streams are not padded", False)] = None


class ResponsesBody(Sampling):
    """A response to be made."""

    input: Annotated[
        Annotated[str, Field(min_length=1)]
        | Annotated[list[InputMessage | InputCall | InputCallOutput | InputReasoning], Field(min_length=1)],
        HONOURED,
    ]
    instructions: Annotated[str | None, HONOURED] = None
    max_output_tokens: Annotated[int | None, *bounds("max_tokens"), WHOLE, HONOURED] = None
    tools: Annotated[list[FunctionTool] | None, HONOURED] = None
    tool_choice: Annotated[Literal["none", "auto", "required"] | NamedFunction | None, HONOURED] = None
    parallel_tool_calls: Annotated[bool | None, HONOURED] = None
    text: Annotated[TextConfig | None, HONOURED] = None
    include: Annotated[list[Literal["message.output_text.logprobs"]] | None, HONOURED] = None
    top_logprobs: Annotated[int | None, Ge(0), Le(20), WHOLE, HONOURED] = None
    chat_template_kwargs: Annotated[dict[str, Any] | None, HONOURED] = None
    stream_options: Annotated[ResponsesStreamOptions | None, HONOURED] = None
    truncation: Annotated[Any, Refused("nothing is ever cut off; shorten the input", "disabled")] = None
    background: Annotated[Any, Refused("a request runs while its connection is open", False)] = None
    previous_response_id: Annotated[Any, Refused(_NO_STORE)] = None
    conversation: Annotated[Any, Refused(_NO_STORE)] = None
    prompt: Annotated[Any, Refused("stored prompts are not supported; send instructions and input")] = None
    max_tool_calls: Annotated[Any, Refused("no tool runs here; the caller runs them all")] = None
    reasoning: Annotated[Any, Refused("the model decides; chat_template_kwargs has what its template knows")] = None
    context_management: Annotated[Any, Refused("the context is never shortened here; shorten the input")] = None
    moderation: Annotated[Any, Refused("there is no moderation here")] = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.top_logprobs and not self.include:
            raise ValueError(f"top_logprobs needs include: [{LOGPROBS!r}]")
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise ValueError("tool_choice needs tools")
        return self
