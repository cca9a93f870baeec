"""What a request's conversation goes by: requests that should meet the same server, or version, have it alike."""

from itertools import takewhile
from typing import Any

from starlette.requests import Request

SESSION = "x-session-id"  # the header that names a client's session
_NAMED = ("prompt_cache_key", "safety_identifier", "user")  # fields that name one, or the end user
_OPENING = ("system", "instructions", "prompt", "input")
_MOST = 2048  # characters of what a prompt begins with


def affinity_of(request: Request, body: Any) -> bytes:
    """Its session where it names one, else its end user, else what its prompt begins with.

    That is the instructions and the first turn: all turns of a conversation share them.
    """
    named = request.headers.get(SESSION) or next((name for name in (_named(body, each) for each in _NAMED) if name), "")
    return (named or _opening(body)).encode("utf-8", "surrogatepass")


def _named(body: Any, field: str) -> str:
    if field == "user" and (metadata := getattr(body, "metadata", None)):
        return str(metadata.get("user_id") or getattr(body, field, None) or "")
    return str(getattr(body, field, None) or "")


def _opening(body: Any) -> str:
    messages = getattr(body, "messages", None) or ()
    instructions = list(takewhile(lambda message: message.role in ("system", "developer"), messages))
    first = [*instructions, *messages[len(instructions) : len(instructions) + 1]]
    return repr([*(_begin(getattr(body, name, None)) for name in _OPENING), first])[:_MOST]


def _begin(part: Any) -> Any:
    return part[:1] if isinstance(part, list) and part and not isinstance(part[0], int) else part
