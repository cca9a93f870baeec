"""Which API a request speaks, and failures in that API's form: OpenAI's, or Anthropic's."""

from collections.abc import Mapping
from dataclasses import replace

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from gateway.errors import ApiError

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def speaks_anthropic(scope: Scope) -> bool:
    """Whether a request is one of Anthropic's API; its clients say so in a header where the path does not."""
    return scope["path"].startswith("/v1/messages") or "anthropic-version" in Request(scope).headers


def anthropic_error(error: ApiError) -> bytes:
    """A failure as Anthropic's API tells it: {"type": "error", "error": {type, message}}."""
    kind = _TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    message = error.message
    if error.code == "context_length_exceeded" and error.param == "messages":
        message = f"prompt is too long: {message}"  # by these words its clients know that they must shorten it
    return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": message}})


def failure(scope: Scope, error: ApiError) -> Response:
    """The response that tells of a failure."""
    body = anthropic_error(error) if speaks_anthropic(scope) else error.body
    return Response(body, status_code=error.status, headers=error.headers)


def renamed(error: ApiError, names: Mapping[str, str]) -> ApiError:
    """A failure of a chat in the words of another endpoint, by its names of the chat's fields."""
    field = error.param or ""
    if field not in names:
        return error
    message = error.message
    if message.startswith(f"{field}: "):
        message = names[field] + message.removeprefix(field)
    return replace(error, param=names[field], message=message)
