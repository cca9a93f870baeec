"""What stands before every route: keys, drain, and the shape that errors have."""

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.dialect import failure
from gateway.errors import INVALID, ApiError
from gateway.health import LIVE
from gateway.interrupt import Drain
from gateway.journey import journey_of
from gateway.keys import Keys

OPEN = (*LIVE, "/health/ready", "/metrics", "/openapi.json", "/version")

_NO_KEY = ApiError(
    401, "No API key: send the header Authorization: Bearer KEY, or x-api-key: KEY", INVALID, "invalid_api_key"
)
_WRONG_KEY = ApiError(401, "This API key is not known here", INVALID, "invalid_api_key")
_STOPPING = ApiError(
    503, "the gateway is stopping. Try again once it is back", "server_error", "service_unavailable", retry_after_s=5
)


class Guard:
    """An ASGI application that only key holders reach, and nobody while it drains."""

    def __init__(self, app: ASGIApp, keys: Keys, drain: Drain) -> None:
        self._app = app
        self._keys = keys
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or answer it."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        journey_of(Request(scope)).finish_reason = refusal.reason
        await failure(scope, refusal)(scope, receive, send)

    def _refusal(self, scope: Scope) -> ApiError | None:
        if scope["path"] in OPEN:
            return None
        if self._drain.draining:
            return _STOPPING
        if not self._keys.needed:
            return None
        request = Request(scope)
        key = _key_of(request)
        if not key:
            return _NO_KEY
        name = self._keys.name_of(key)
        if name is None:
            return _WRONG_KEY
        journey_of(request).key = name
        return None


def _key_of(request: Request) -> str:
    """The key that a request shows, as OpenAI's clients do or as Anthropic's; '' for none."""
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else request.headers.get("x-api-key", "").strip()
