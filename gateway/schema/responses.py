"""The body of POST /v1/responses."""

from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Le
from pydantic import Field, model_validator

from contract.sampling import BOUNDS
from gateway.schema.chat import FUNCTION_NAME
from gateway.schema.common import Body, Sampling

LOGPROBS = "message.output_text.logprobs"
Status = Literal["in_progress", "completed", "incomplete"]


class InputText(Body):
    """A part of a message."""

    type: Literal["input_text", "output_text"]
    text: str
    annotations: list[Any] | None = Field(None, description="Of an earlier answer; changes nothing.")
    logprobs: list[Any] | None = Field(None, description="Of an earlier answer; changes nothing.")


class InputRefusal(Body):
    """What an earlier answer said instead of an answer."""

    type: Literal["refusal"]
    refusal: str


class InputMessage(Body):
    """A message of the conversation."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[InputText | InputRefusal]
    id: str | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class InputCall(Body):
    """A function call of an earlier answer."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: Status | None = None


class InputCallOutput(Body):
    """What a function gave."""

    type: Literal["function_call_output"]
    call_id: str
    output: str | list[InputText]
    id: str | None = None
    status: Status | None = None


class InputReasoning(Body):
    """The reasoning of an earlier answer; chat templates leave it out of the prompt."""

    type: Literal["reasoning"]
    id: str | None = None
    summary: list[Any] | None = None
    content: list[Any] | None = None
    encrypted_content: None = None
    status: Status | None = None


class FunctionTool(Body):
    """A function that the model may call."""

    type: Literal["function"]
    name: str = Field(pattern=FUNCTION_NAME)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedFunction(Body):
    """The function that must be called."""

    type: Literal["function"]
    name: str


class TextFormat(Body):
    """What the answer's text must be."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.type == "json_schema") != (self.schema_ is not None):
            raise ValueError("schema belongs to type 'json_schema', and only to it")
        return self


class TextConfig(Body):
    """How the answer is written."""

    format: TextFormat | None = None


class ResponsesStreamOptions(Body):
    """What a stream carries beside the answer."""

    include_obfuscation: Literal[False] = False


class ResponsesBody(Sampling):
    """A response to be made."""

    input: (
        Annotated[str, Field(min_length=1)]
        | Annotated[
            list[InputMessage | InputCall | InputCallOutput | InputReasoning],
            Field(min_length=1),
        ]
    )
    instructions: str | None = None
    max_output_tokens: Annotated[int, Ge(BOUNDS["max_tokens"][0]), Le(BOUNDS["max_tokens"][1])] | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunction | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    include: list[Literal["message.output_text.logprobs"]] | None = None
    top_logprobs: Annotated[int, Ge(0), Le(20)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    stream_options: ResponsesStreamOptions | None = None
    truncation: Literal["disabled"] | None = Field(None, description="Nothing is ever cut off.")
    background: Literal[False] | None = Field(None, description="A request runs while its connection is open.")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.top_logprobs and not self.include:
            raise ValueError(f"top_logprobs needs include: [{LOGPROBS!r}]")
        if self.stream_options and not self.stream:
            raise ValueError("stream_options needs stream")
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise ValueError("tool_choice needs tools")
        return self
