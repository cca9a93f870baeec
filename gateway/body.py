"""What comes with a request: its body, within its limits, and its deadline."""

import json
import math
from collections.abc import Collection
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic_core import from_json
from starlette.requests import Request

from gateway.arrival import Arrivals, too_large
from gateway.ask import TIMEOUT_HEADER
from gateway.encoding import TooLong, decoder_of
from gateway.errors import Location, path_of, refuse
from gateway.schema.common import Body
from gateway.weight import check_weight

B = TypeVar("B", bound=Body)

# What other routers read and OpenCode sends; then Codex', older and newer, and Claude Code's own.
_SESSION_HEADERS = ("x-session-id", "session_id", "session-id", "x-claude-code-session-id")
_LONGEST_TIMEOUT_S = 86_400.0


async def read_body(request: Request, schema: type[B], arrivals: Arrivals, most_bytes: int) -> B:
    """The body, checked against its schema.

    Raises:
        Refused: too large, too slow, or of an encoding or a type that is not taken.
        ValidationError: not what the schema says.
        ClientLeft: cut short.
    """
    unpack = decoder_of(request.headers.get("content-encoding", ""))
    body = await arrivals.read(request, most_bytes)
    try:
        return parsed(unpack(body, most_bytes), schema)
    except TooLong:
        raise too_large(most_bytes) from None


def check_origin(request: Request, friends: Collection[str]) -> None:
    """Refuse what a page of another origin sends without asking: a browser asks before it sends JSON, and only then.

    Raises:
        Refused: with status 415.
    """
    origin = request.headers.get("origin")
    if origin is None or origin in friends or "*" in friends:
        return
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    same = urlsplit(origin).netloc == request.headers.get("host")
    if not same and kind != "application/json":
        message = f"a page of {origin:.80} must send application/json"
        raise refuse(message, param="Content-Type", code="unsupported_type", status=415)


def parsed(body: bytes, schema: type[B]) -> B:
    """A body, understood as far as its schema goes.

    Raises:
        Refused: no JSON object, or too much of one.
        ValidationError: not what the schema says.
    """
    try:
        given = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        if "hex escape" in str(error):
            with suppress(ValueError, RecursionError):
                found = json.loads(body)
                check_weight(found if isinstance(found, dict) else {"": found})
                path = path_of(_no_text(found, ()) or ())
                raise refuse("is no text: it has half of a surrogate pair", param=path) from None
        raise refuse(f"The body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(given, dict):
        raise refuse("The body must be a JSON object", code="invalid_json")
    check_weight(given)
    return schema.model_validate(given)


def _no_text(value: Any, at: Location) -> Location | None:
    """Where a parsed body has a string that no encoding can hold."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return next((found for key, each in inner if (found := _no_text(each, (*at, key)))), None)


def timeout_of(request: Request) -> float | None:
    """The client's own deadline, in seconds from the arrival of its request."""
    given = request.headers.get(TIMEOUT_HEADER)
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _LONGEST_TIMEOUT_S:
        raise refuse(f"must be seconds, above 0 and at most {_LONGEST_TIMEOUT_S:g}", param=TIMEOUT_HEADER)
    return seconds


def session_of(request: Request, body: Body) -> str:
    """The name of what a request belongs to, such as its conversation; '' where its client gives none.

    Who the user is does not say it.
    """
    given = (request.headers.get(name) for name in _SESSION_HEADERS)
    return next(filter(None, given), "") or getattr(body, "prompt_cache_key", None) or ""
