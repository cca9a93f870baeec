"""Every error Conch can show a user, and what each protocol calls it.

A request's error travels through Triton as one line, ``[kind] field: message``, because Triton's
gRPC stream carries a string and no status code. :func:`from_wire` turns that line back into the
exception, so that clients, gateway and load tests see one hierarchy.
"""

import re
from dataclasses import dataclass, replace
from typing import ClassVar


@dataclass(frozen=True)
class Codes:
    """What one kind of error is called in each protocol."""

    triton: str  # a constant of triton_python_backend_utils.TritonError
    grpc: str  # a grpc.StatusCode
    http: int
    openai: str  # error.type of the OpenAI API
    code: str = "invalid_value"  # error.code of the OpenAI API


class ConchError(Exception):
    """Base of everything Conch raises on purpose; its text is fit for a user."""

    def __init__(self, message: str, *, fix: str = "") -> None:
        self.message = message
        self.fix = fix
        super().__init__(f"{message}. {fix}" if fix else message)


class RequestError(ConchError):
    """A request that was refused or failed. ``field`` is the tensor at fault, or ''."""

    kind: ClassVar[str] = "internal"
    codes: ClassVar[Codes] = Codes("INTERNAL", "INTERNAL", 500, "server_error", "internal_error")

    def __init__(self, message: str, *, field: str = "", fix: str = "") -> None:
        super().__init__(message, fix=fix)
        self.field = field

    def __str__(self) -> str:
        return self.said_of(self.field)

    def said_of(self, field: str) -> str:
        """Its text where the tensor at fault has another name."""
        text = super().__str__()
        return f"{field}: {text}" if field else text

    def to_wire(self) -> str:
        """The line that Triton carries: ``[kind] field: message``."""
        return f"[{self.kind}] {self}"


class InvalidRequest(RequestError):
    """A value that no engine could accept."""

    kind = "invalid_request"
    codes = Codes("INVALID_ARG", "INVALID_ARGUMENT", 400, "invalid_request_error")


class ContextTooLong(InvalidRequest):
    """The prompt, or the prompt and max_tokens, do not fit the deployment's context."""

    kind = "context_too_long"
    codes = replace(InvalidRequest.codes, code="context_length_exceeded")


class UnsupportedByEngine(InvalidRequest):
    """A valid parameter that the engine behind this deployment cannot honour."""

    kind = "unsupported"
    codes = replace(InvalidRequest.codes, code="unsupported_parameter")


class Overloaded(RequestError):
    """The deployment is at its limit; the request was refused before prefill."""

    kind = "overloaded"
    codes = Codes("UNAVAILABLE", "RESOURCE_EXHAUSTED", 429, "rate_limit_error", "rate_limit_exceeded")


class Unavailable(RequestError):
    """The server is starting, stopping or restarting."""

    kind = "unavailable"
    codes = Codes("UNAVAILABLE", "UNAVAILABLE", 503, "server_error", "service_unavailable")


class DeadlineExceeded(RequestError):
    """The client's deadline passed before the answer was complete: no fault of the server, so no 5xx."""

    kind = "deadline_exceeded"
    codes = Codes("UNAVAILABLE", "DEADLINE_EXCEEDED", 408, "invalid_request_error", "deadline_exceeded")


class Cancelled(RequestError):
    """The client left, or cancelled."""

    kind = "cancelled"
    codes = Codes("CANCELLED", "CANCELLED", 499, "server_error", "cancelled")


class EngineFailed(RequestError):
    """The engine raised in the middle of a request."""

    kind = "engine_failed"
    codes = replace(RequestError.codes, code="engine_failed")


class InternalError(RequestError):
    """A fault of ours. The log has the traceback; the user does not."""

    kind = "internal"


REQUEST_ERRORS: dict[str, type[RequestError]] = {
    error.kind: error
    for error in (
        InvalidRequest,
        ContextTooLong,
        UnsupportedByEngine,
        Overloaded,
        Unavailable,
        DeadlineExceeded,
        Cancelled,
        EngineFailed,
        InternalError,
    )
}

_WIRE = re.compile(r"\[(?P<kind>[a-z_]+)\] (?:(?P<field>[a-z_.\[\]0-9]+): )?(?P<message>.*)", re.DOTALL)

# Triton's own words for tensors and JSON that it cannot read.
_BLAMES_THE_INPUT = re.compile(r"input '|batch-size|parameter '|[Uu]nable to parse|failed to parse")


def from_wire(text: str) -> RequestError:
    """The exception behind a line from Triton.

    Triton puts words of its own before ours and refuses malformed tensors itself; what carries no
    ``[kind]`` of ours becomes InvalidRequest where Triton blames the input, else InternalError.
    """
    found = _WIRE.search(text)
    if found and found["kind"] in REQUEST_ERRORS:
        return REQUEST_ERRORS[found["kind"]](found["message"], field=found["field"] or "")
    if "request has 0 inputs" in text:
        return InvalidRequest("the request has no inputs", field="text_input")
    if _BLAMES_THE_INPUT.search(text):
        named = re.search(r"(?:input|parameter) '([^']+)'", text)
        return InvalidRequest(text, field=named[1] if named else "")
    if re.search(r"not healthy|unavailable|is not ready|[Ss]erver is stopping|Socket closed", text):
        return Unavailable(text)
    return InternalError(text)


class SpecError(ConchError):
    """A deployment spec that cannot be accepted; names the file, the line and the key."""


class BuildError(ConchError):
    """A build step that refused or failed."""


class VerifyError(BuildError):
    """The engine does not agree with its reference; it was not published."""


class ServeError(ConchError):
    """The server cannot be started, or died and could not be brought back."""
