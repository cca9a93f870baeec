"""What comes with a request: its body, within its limits, and its deadline."""

import asyncio
import json
import math
from contextlib import suppress
from typing import Any, TypeVar

from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request

from gateway.ask import TIMEOUT_HEADER
from gateway.encoding import TooLong, decoder_of
from gateway.errors import Location, Refused, path_of, refuse
from gateway.interrupt import ClientLeft
from gateway.schema.common import Body
from gateway.weight import check_weight

B = TypeVar("B", bound=Body)

_LONGEST_TIMEOUT_S = 86_400.0
_ARRIVAL_S = 30.0  # a body that takes longer to arrive is given up


async def read_body(request: Request, schema: type[B], most_bytes: int) -> B:
    """The body, checked against its schema.

    Raises:
        Refused: too large, too slow, or of an encoding that is not taken.
        ValidationError: not what the schema says.
        ClientLeft: cut short.
    """
    unpack = decoder_of(request.headers.get("content-encoding", ""))
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > most_bytes:
        raise _too_large(most_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(_ARRIVAL_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most_bytes:
                    raise _too_large(most_bytes)
    except TimeoutError:
        raise refuse(f"the body did not arrive within {_ARRIVAL_S:g} s", code="body_timeout", status=408) from None
    except ClientDisconnect:
        raise ClientLeft from None
    try:
        return parsed(unpack(bytes(body), most_bytes), schema)
    except TooLong:
        raise _too_large(most_bytes) from None


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


def _too_large(most_bytes: int) -> Refused:
    return refuse(f"the body is larger than {most_bytes} bytes", code="request_too_large", status=413)
