"""What comes back, for the published openapi.json; the answers themselves are written without these models."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    """Base of every part of an answer."""

    model_config = ConfigDict(extra="forbid")


class CompletionTokensDetails(Shape):
    """What the answer's tokens were spent on."""

    reasoning_tokens: int


class PromptTokensDetails(Shape):
    """What the prompt's tokens cost."""

    cached_tokens: int


class Usage(Shape):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: CompletionTokensDetails | None = None
    prompt_tokens_details: PromptTokensDetails | None = None


class CalledFunctionAnswer(Shape):
    """A function and its arguments, as the model wrote them."""

    name: str
    arguments: str


class ToolCallAnswer(Shape):
    """A call for the client to make."""

    id: str
    type: Literal["function"]
    function: CalledFunctionAnswer


class MessageAnswer(Shape):
    """The assistant's message."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallAnswer] | None = None


class ChatChoice(Shape):
    """One answer."""

    index: int
    message: MessageAnswer
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatAnswer(Shape):
    """A chat completion."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class TextChoice(Shape):
    """One answer."""

    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]


class TextAnswer(Shape):
    """A text completion."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage


class ResponseAnswer(BaseModel):
    """A response; what it repeats of its request is left out here."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "incomplete"]
    model: str
    output: list[dict[str, Any]]
    usage: dict[str, Any]


class ModelAnswer(Shape):
    """A deployment."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int


class ModelList(Shape):
    """Every deployment."""

    object: Literal["list"]
    data: list[ModelAnswer]


class Error(Shape):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(Shape):
    """A refusal or a failure."""

    error: Error


class AnthropicMessage(Shape):
    """A message of Anthropic's API."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[dict[str, Any]]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"]
    stop_sequence: str | None
    usage: dict[str, Any]


class TokenCount(Shape):
    """The tokens of a conversation."""

    input_tokens: int


class InputTokenCount(TokenCount):
    """The tokens of a response's input."""

    object: Literal["response.input_tokens"]


class TokenizeAnswer(Shape):
    """The tokens of a prompt."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class TokensText(Shape):
    """The text of tokens."""

    prompt: str


class AnthropicError(Shape):
    """What went wrong, in Anthropic's form."""

    type: str
    message: str


class AnthropicErrorAnswer(Shape):
    """A refusal or a failure, in Anthropic's form."""

    type: Literal["error"]
    error: AnthropicError
