"""What turns of /v1/messages are made of: blocks, an earlier answer's among them."""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import ConfigDict, Tag, model_validator

from gateway.schema.common import Body, Many
from gateway.schema.decisions import HONOURED, Accepted, Honoured, Refused
from gateway.schema.kinds import kinds
from gateway.schema.refused import TEXT_ONLY
from gateway.schema.rules import Rule, both, either, has

_NO_TEXT = f"{TEXT_ONLY}, and no tool runs here"

CacheControl = Annotated[dict[str, Any] | None, Accepted("the prefix cache is always on and needs no marks")]


class TextBlock(Body):
    """A text."""

    type: Literal["text"]
    text: Annotated[str, HONOURED]
    cache_control: CacheControl = None
    citations: Annotated[Many[Any] | None, Accepted("of an earlier answer")] = None


class ThinkingBlock(Body):
    """The reasoning of an earlier answer."""

    type: Literal["thinking"]
    thinking: Annotated[str, Honoured("given to the chat template, which decides how much of it the model sees")]
    signature: Annotated[str | None, Accepted("reasoning needs no proof here: it is the client's to send")] = None


class RedactedThinkingBlock(Body):
    """The reasoning of another provider's answer."""

    type: Literal["redacted_thinking"]
    data: Annotated[str, Accepted("only who encrypted it can read it")]


class ToolUseBlock(Body):
    """A call of an earlier answer."""

    type: Literal["tool_use"]
    id: Annotated[str, HONOURED]
    name: Annotated[str, HONOURED]
    input: Annotated[dict[str, Any], HONOURED]
    caller: Annotated[dict[str, Any] | None, Accepted("who called changes nothing in what was called")] = None
    cache_control: CacheControl = None


class ContentSource(Body):
    """A document's content, in blocks."""

    type: Literal["content"]
    content: Annotated[str | Many[TextBlock], HONOURED]


class TextSource(Body):
    """A document's content, as text."""

    type: Literal["text"]
    data: Annotated[str, HONOURED]
    media_type: Annotated[Literal["text/plain"], HONOURED] = "text/plain"


class Citations(Body):
    """Whether the answer cites."""

    enabled: Annotated[Any, Refused("the models here do not cite; ask for it in the prompt", False)] = None


class DocumentBlock(Body):
    """A text with a title."""

    type: Literal["document"]
    source: Annotated[
        Annotated[ContentSource, Tag("ContentSource")] | Annotated[TextSource, Tag("TextSource")],
        *kinds(_NO_TEXT, content="ContentSource", text="TextSource"),
        HONOURED,
    ]
    title: Annotated[str | None, HONOURED] = None
    context: Annotated[str | None, HONOURED] = None
    citations: Annotated[Citations | None, HONOURED] = None
    cache_control: CacheControl = None


class SearchResultBlock(Body):
    """A text with the place it is from."""

    type: Literal["search_result"]
    source: Annotated[str, HONOURED]
    title: Annotated[str, HONOURED]
    content: Annotated[Many[TextBlock], HONOURED]
    citations: Annotated[Citations | None, HONOURED] = None
    cache_control: CacheControl = None


_RESULTS = {"text": "TextBlock", "document": "DocumentBlock", "search_result": "SearchResultBlock"}

ResultBlock = Annotated[
    Annotated[TextBlock, Tag("TextBlock")]
    | Annotated[DocumentBlock, Tag("DocumentBlock")]
    | Annotated[SearchResultBlock, Tag("SearchResultBlock")],
    *kinds(_NO_TEXT, **_RESULTS),
]


class ToolResultBlock(Body):
    """What a tool gave."""

    type: Literal["tool_result"]
    tool_use_id: Annotated[str, HONOURED]
    content: Annotated[str | Many[ResultBlock] | None, HONOURED] = None
    is_error: Annotated[bool | None, Honoured("the model reads `Error: ` before the content")] = None
    cache_control: CacheControl = None


Block = Annotated[
    Annotated[TextBlock, Tag("TextBlock")]
    | Annotated[ThinkingBlock, Tag("ThinkingBlock")]
    | Annotated[RedactedThinkingBlock, Tag("RedactedThinkingBlock")]
    | Annotated[ToolUseBlock, Tag("ToolUseBlock")]
    | Annotated[ToolResultBlock, Tag("ToolResultBlock")]
    | Annotated[DocumentBlock, Tag("DocumentBlock")]
    | Annotated[SearchResultBlock, Tag("SearchResultBlock")],
    *kinds(
        _NO_TEXT,
        thinking="ThinkingBlock",
        redacted_thinking="RedactedThinkingBlock",
        tool_use="ToolUseBlock",
        tool_result="ToolResultBlock",
        **_RESULTS,
    ),
]
_ONLY_BY: dict[type[Body], str] = {ToolUseBlock: "assistant", ThinkingBlock: "assistant", ToolResultBlock: "user"}


def _turn(role: str) -> Rule:
    """What a speaker may say, as JSON Schema."""
    others = [_type_of(block) for block, speaker in _ONLY_BY.items() if speaker != role]
    part = {"properties": {"type": {"not": {"enum": others}}}}
    return both(has("role", const=role), has("content", anyOf=[{"type": "string"}, {"type": "array", "items": part}]))


def _type_of(block: type[Body]) -> str:
    (kind,) = get_args(block.model_fields["type"].annotation)
    return str(kind)


class InputMessage(Body):
    """One turn."""

    model_config = ConfigDict(json_schema_extra=either(*(_turn(role) for role in ("user", "assistant", "system"))))

    role: Annotated[Literal["user", "assistant", "system"], HONOURED]
    content: Annotated[str | Many[Block], Honoured("a last message of the assistant is continued")]

    @model_validator(mode="after")
    def _by_its_speaker(self) -> Self:
        for at, block in enumerate(self.content if isinstance(self.content, list) else ()):
            speaker = _ONLY_BY.get(type(block), self.role)
            if speaker != self.role:
                raise ValueError(f"content[{at}] of type {block.type} belongs into a message of the {speaker}")
        return self
