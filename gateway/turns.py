"""A conversation as chat templates take it: speakers that alternate, and system messages where they may stand."""

from collections.abc import Iterable

from gateway.probe import takes_late_system
from gateway.schema.chat import Message

_SYSTEM = ("system", "developer")


def settled(messages: Iterable[Message], chat_template: str) -> list[Message]:
    """Messages of one speaker that follow each other as one.

    A system message behind others is the user's where the template takes none there.
    """
    turns: list[Message] = []
    for message in messages:
        role = message.role
        if role in _SYSTEM:
            late = any(turn.role not in _SYSTEM for turn in turns)
            role = "user" if late and not takes_late_system(chat_template) else "system"
        if turns and turns[-1].role == role != "tool":
            turns[-1] = _joined(turns[-1], message)
        else:
            turns.append(message if role == message.role else message.model_copy(update={"role": role}))
    return turns


def _joined(first: Message, then: Message) -> Message:
    texts = [each.content for each in (first, then) if isinstance(each.content, str) and each.content]
    reasoning = [each.reasoning_content for each in (first, then) if each.reasoning_content]
    calls = [*(first.tool_calls or ()), *(then.tool_calls or ())]
    return Message(
        role=first.role,
        content="\n".join(texts) if texts or not calls else None,
        tool_calls=calls or None,
        reasoning_content="\n".join(reasoning) or None,
    )
