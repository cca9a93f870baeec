"""What a response is made of: the items of /v1/responses' input, an earlier answer's among them."""

from typing import Annotated, Any, Literal

from pydantic import Tag

from gateway.schema.common import Body, Many
from gateway.schema.decisions import HONOURED, Accepted, Honoured
from gateway.schema.kinds import kinds
from gateway.schema.refused import TEXT_ONLY

_OF_AN_ANSWER = Accepted("of an earlier answer")
_NO_SUCH_ITEM = "nothing is stored here, and no tool runs here; send what the model is to read"

Status = Annotated[Literal["in_progress", "completed", "incomplete"] | None, _OF_AN_ANSWER]
Id = Annotated[str | None, _OF_AN_ANSWER]
Namespace = Annotated[str | None, Honoured("a part of the name that the model sees")]
Caller = Annotated[dict[str, Any] | None, Accepted("who called changes nothing in what was called")]


class InputText(Body):
    """A part of a message."""

    type: Literal["input_text", "output_text", "text"]
    text: Annotated[str, HONOURED]
    annotations: Annotated[Many[Any] | None, _OF_AN_ANSWER] = None
    logprobs: Annotated[Many[Any] | None, _OF_AN_ANSWER] = None


class InputRefusal(Body):
    """What an earlier answer said instead of an answer."""

    type: Literal["refusal"]
    refusal: Annotated[str, HONOURED]


_TEXTS = dict.fromkeys(("input_text", "output_text", "text"), "InputText")
Part = Annotated[
    Annotated[InputText, Tag("InputText")] | Annotated[InputRefusal, Tag("InputRefusal")],
    *kinds(TEXT_ONLY, **_TEXTS, refusal="InputRefusal"),
]


class InputMessage(Body):
    """A message of the conversation."""

    type: Literal["message"] = "message"
    role: Annotated[Literal["user", "assistant", "system", "developer"], HONOURED]
    content: Annotated[str | Many[Part], HONOURED]
    id: Id = None
    status: Status = None
    phase: Annotated[Literal["commentary", "final_answer"] | None, _OF_AN_ANSWER] = None


class InputCall(Body):
    """A function call of an earlier answer."""

    type: Literal["function_call"]
    call_id: Annotated[str, HONOURED]
    name: Annotated[str, HONOURED]
    namespace: Namespace = None
    arguments: Annotated[str, HONOURED]
    id: Id = None
    status: Status = None
    caller: Caller = None


class InputCallOutput(Body):
    """What a function, or a custom tool, gave."""

    type: Literal["function_call_output", "custom_tool_call_output"]
    call_id: Annotated[str, HONOURED]
    output: Annotated[str | Many[Part], HONOURED]
    id: Id = None
    status: Status = None
    caller: Caller = None


class InputCustomCall(Body):
    """A call of a custom tool of an earlier answer."""

    type: Literal["custom_tool_call"]
    call_id: Annotated[str, HONOURED]
    name: Annotated[str, HONOURED]
    namespace: Namespace = None
    input: Annotated[str, HONOURED]
    id: Id = None
    status: Status = None
    caller: Caller = None


class ReasoningText(Body):
    """A part of an earlier answer's reasoning."""

    type: Literal["reasoning_text", "summary_text", "text"]
    text: Annotated[str, Honoured("given to the chat template, which decides how much of it the model sees")]


class InputReasoning(Body):
    """The reasoning of an earlier answer."""

    type: Literal["reasoning"]
    id: Id = None
    summary: Annotated[Many[ReasoningText] | None, Accepted("the reasoning itself is in content")] = None
    content: Annotated[Many[ReasoningText] | None, HONOURED] = None
    encrypted_content: Annotated[
        str | None, Honoured("what an answer here had stands for its content; another provider's cannot be read")
    ] = None
    status: Status = None


Item = Annotated[
    Annotated[InputMessage, Tag("InputMessage")]
    | Annotated[InputCall, Tag("InputCall")]
    | Annotated[InputCallOutput, Tag("InputCallOutput")]
    | Annotated[InputCustomCall, Tag("InputCustomCall")]
    | Annotated[InputReasoning, Tag("InputReasoning")],
    *kinds(
        _NO_SUCH_ITEM,
        "message",
        message="InputMessage",
        function_call="InputCall",
        function_call_output="InputCallOutput",
        custom_tool_call="InputCustomCall",
        custom_tool_call_output="InputCallOutput",
        reasoning="InputReasoning",
    ),
]
