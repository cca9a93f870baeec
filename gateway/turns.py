"""A conversation as chat templates take it: speakers that alternate, and system messages where they may stand."""

from collections.abc import Iterable, Sequence

from gateway.probe import takes_late_system
from gateway.schema.chat import Message, Role

_SYSTEM = ("system", "developer")


def settled(messages: Iterable[Message], chat_template: str) -> list[Message]:
    """Messages of one speaker that follow each other as one.

    A system message behind others is the user's where the template takes none there.
    """
    runs: list[tuple[Role, list[Message]]] = []
    late = False
    for message in messages:
        role = message.role
        if role in _SYSTEM:
            role = "user" if late and not takes_late_system(chat_template) else "system"
        late |= role not in _SYSTEM
        if runs and runs[-1][0] == role != "tool":
            runs[-1][1].append(message)
        else:
            runs.append((role, [message]))
    return [_joined(role, run) for role, run in runs]


def _joined(role: Role, run: Sequence[Message]) -> Message:
    if len(run) == 1:
        return run[0] if run[0].role == role else run[0].model_copy(update={"role": role})
    texts = [each.content for each in run if isinstance(each.content, str) and each.content]
    reasoning = [each.reasoning_content for each in run if each.reasoning_content]
    calls = [call for each in run for call in each.tool_calls or ()]
    return Message(
        role=role,
        content="\n".join(texts) if texts or not calls else None,
        tool_calls=calls or None,
        reasoning_content="\n".join(reasoning) or None,
    )
