"""Every failure as OpenAI's API tells it: a status, and {"error": {message, type, param, code}}."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from clients.wire import Unreachable
from contract.errors import ContextTooLong, DeadlineExceeded, RequestError
from gateway.schema.decisions import REFUSAL
from gateway.schema.refused import why_refused
from gateway.standing import seconds_told

Location = tuple[int | str, ...]  # a place in a body, as pydantic tells it

INVALID = "invalid_request_error"


@dataclass(frozen=True)
class ApiError:
    """A failure, ready to be sent."""

    status: int
    message: str
    type: str
    code: str | None = None
    param: str | None = None
    retry_after_s: float | None = None
    accepts: str = ""  # the content encodings to send instead
    noted: str = ""  # what the log and the metrics call it, where that says more than its code

    @property
    def reason(self) -> str:
        """Why a request ended, in the log's word."""
        return self.noted or self.code or self.type

    @property
    def body(self) -> bytes:
        """The JSON that OpenAI's clients read."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return msgspec.json.encode({"error": error})

    @property
    def headers(self) -> dict[str, str]:
        """Headers beside it."""
        headers = {"content-type": "application/json"}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(seconds_told(self.retry_after_s))
        if self.code == DeadlineExceeded.codes.code:  # OpenAI's clients would try a 408 again, as late as before
            headers["x-should-retry"] = "false"
        if self.accepts:
            headers["accept-encoding"] = self.accepts
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return headers


GONE = "the server is not there, or went in the middle of this answer. Try again later"
UNKNOWN = ApiError(500, "the gateway failed on this request", "server_error", "internal_error")


class Refused(Exception):
    """A request that the gateway itself refuses."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error


def refuse(message: str, *, param: str | None = None, code: str = "invalid_value", status: int = 400) -> Refused:
    """A refusal of what the client sent, beginning with the field at fault; to be raised."""
    if param:
        message = f"{param}: {message}"
    return Refused(ApiError(status, message, INVALID, code, param))


def of_request(error: RequestError, names: Mapping[str, str], retry_after_s: float | None = None) -> ApiError:
    """One of the contract's errors.

    Args:
        names: tensor → the field of this request that it was made from.
        retry_after_s: when there will be room again; told where the server is at its limit.
    """
    field = names.get(error.field, error.field)
    message = public(error, field)
    codes = error.codes
    if isinstance(error, ContextTooLong):  # OpenAI's client shows the message alone, where LangChain looks for the code
        message = f"{message} ({codes.code})"
    told = retry_after_s if codes.http in (429, 503) else None
    return ApiError(codes.http, message, codes.openai, codes.code, field or None, told)


def public(error: RequestError, field: str) -> str:
    """What a client may read of an error of a field: the transport's own words have addresses of the inside."""
    return GONE if isinstance(error, Unreachable) else error.said_of(field)


def of_validation(error: ValidationError) -> ApiError:
    """A body that is not what its schema says: the fault that lies deepest in it."""
    fault = max(error.errors(include_url=False), key=_telling)
    kind = fault["type"]
    param = path_of(fault["loc"])
    if kind == "extra_forbidden":
        reason = why_refused(str(fault["loc"][-1]))
        if reason:
            return ApiError(400, f"{param}: {reason}", INVALID, "unsupported_parameter", param)
        return ApiError(400, f"Unknown parameter: {param}", INVALID, "unknown_parameter", param)
    if kind == "missing":
        return ApiError(400, f"Missing required parameter: {param}", INVALID, "missing_required_parameter", param)
    message = str(fault["msg"]).removeprefix("Value error, ")
    if kind == "value_error":  # our own checks between fields, which begin with a field's name
        named = message.partition(" ")[0]
        where = f"{param}: {message}" if param else message
        return ApiError(400, where, INVALID, "invalid_value", param or (named if named.isidentifier() else None))
    if kind == REFUSAL:
        return ApiError(400, f"{param}: {message}", INVALID, "unsupported_parameter", param)
    given: Any = fault.get("input")
    shown = f", got {given!r:.80}" if isinstance(given, str | int | float) else ""
    where = f"{param}: " if param else ""
    return ApiError(400, f"{where}{message[0].lower()}{message[1:]}{shown}", INVALID, "invalid_value", param)


def _telling(fault: ErrorDetails) -> tuple[bool, bool, int]:
    """Of several faults, one is shown: a field that is refused with a reason, else the deepest.

    A wrong type comes last: of a union, the members that were not meant all report one.
    """
    refused = fault["type"] == REFUSAL or (
        fault["type"] == "extra_forbidden" and bool(why_refused(str(fault["loc"][-1])))
    )
    return refused, not fault["type"].endswith("_type"), len(fault["loc"])


def path_of(location: Location) -> str | None:
    """A place in a body as ``messages[0].content``; pydantic's own words for unions are left out."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.isidentifier() and part[0].islower() and part not in _UNION_WORDS:
            path += f".{part}" if path else part
    return path or None


_UNION_WORDS = {"str", "int", "float", "bool", "dict", "list", "none"}
