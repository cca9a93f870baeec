"""What keeps a request with one version of its deployment while two are there: what belongs together has it alike."""

from itertools import takewhile
from typing import Any

_USER = ("safety_identifier", "user")  # fields that name the end user
_OPENING = ("system", "instructions", "prompt", "input")
_MOST = 2048  # characters of what a prompt begins with


def sticky_of(session: str, body: Any) -> bytes:
    """Its session where it names one, else its end user, else what its prompt begins with.

    That is the instructions and the first turn: all turns of a conversation share them.
    """
    return (session or _user(body) or _opening(body)).encode("utf-8", "surrogatepass")


def _user(body: Any) -> str:
    metadata = getattr(body, "metadata", None) or {}  # of Anthropic's API
    given = (*(getattr(body, name, None) for name in _USER), metadata.get("user_id"))
    return next((str(each) for each in given if each), "")


def _opening(body: Any) -> str:
    messages = getattr(body, "messages", None) or ()
    instructions = list(takewhile(lambda message: message.role in ("system", "developer"), messages))
    first = [*instructions, *messages[len(instructions) : len(instructions) + 1]]
    return repr([*(_begin(getattr(body, name, None)) for name in _OPENING), first])[:_MOST]


def _begin(part: Any) -> Any:
    return part[:1] if isinstance(part, list) and part and not isinstance(part[0], int) else part
