"""The outermost layer: gives each request its journey, its id and its trace; tells log, metrics and trace its end.

The log has no prompt, no answer and no key; only a key's name.
"""

import logging
import re
import time
from secrets import token_hex
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.books import Books
from gateway.dialect import failure, speaks_anthropic
from gateway.errors import UNKNOWN
from gateway.journey import NO_RESPONSE, Journey
from gateway.standing import headers_of
from gateway.tracing.trace import Trace

if TYPE_CHECKING:
    from gateway.tracing.tracer import Tracer

log = logging.getLogger("gateway")

_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_QUIET = ("/health/live", "/health/ready", "/metrics")


class Observed:
    """An ASGI application, observed."""

    def __init__(self, app: ASGIApp, books: Books, tracer: "Tracer | None" = None) -> None:
        self._app = app
        self._books = books
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _id_of(scope)
        journey = scope["journey"] = Journey(request_id)
        trace: Trace | None = None
        if self._tracer and scope["path"] not in _QUIET:
            trace = scope["trace"] = self._tracer.begin(scope, journey)

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                journey.status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
                anthropic = speaks_anthropic(scope)
                if anthropic:
                    message["headers"].append((b"request-id", request_id.encode()))
                if journey.standing:
                    message["headers"] += headers_of(journey.standing, anthropic=anthropic)
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception:
            log.exception("a request failed [%s]", request_id)
            if journey.status != NO_RESPONSE:
                raise
            journey.finish_reason = UNKNOWN.code or ""
            await failure(scope, UNKNOWN)(scope, receive, noted)
        finally:
            now = time.monotonic()
            self._books.record(journey, now)
            if scope["path"] not in _QUIET:
                log.info(_line(scope, journey, request_id, now, trace))
            if self._tracer and trace:
                self._tracer.end(trace, scope, journey, request_id, now)


def _id_of(scope: Scope) -> str:
    """The client's own id of its request, if it is fit for a line of the log; else a new one."""
    given: bytes = dict(scope["headers"]).get(b"x-request-id", b"")
    return given.decode() if _ID.fullmatch(given) else token_hex(16)


def _line(scope: Scope, journey: Journey, request_id: str, now: float, trace: Trace | None) -> str:
    parts = [f"{scope['method']} {journey.route} {journey.status} {now - journey.began:.3f}s"]
    if journey.model:
        ttft = f" ttft {journey.first_token - journey.began:.3f}s" if journey.first_token else ""
        parts.append(f"{journey.model} {journey.prompt_tokens}+{journey.completion_tokens} tokens{ttft}")
    key, traced = f"key {journey.key}" if journey.key else "", f"trace {trace.id}" if trace else ""
    parts += [word for word in (journey.finish_reason, key, traced) if word]
    return f"{', '.join(parts)} [{request_id}]"
