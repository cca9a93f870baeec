"""uvicorn's HTTP protocol with what it lacks: limits on a request's head, in size and in time, and HTTP/1.0 streams."""

import asyncio
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.errors import INVALID, ApiError

MOST_HEADERS = 100
MOST_HEAD_BYTES = 64 * 1024
_HEAD_PATIENCE_S = 30.0

_BROKEN = ApiError(400, "This is not HTTP", INVALID, "invalid_http")
_TOO_LARGE = ApiError(
    431, f"The headers exceed {MOST_HEADERS} or {MOST_HEAD_BYTES} bytes", INVALID, "headers_too_large"
)


def _unframed(app: ASGI3Application, cycle: RequestResponseCycle) -> ASGI3Application:
    """The application for a client of HTTP/1.0, which knows no chunks: a stream ends where the connection does."""

    async def run(scope: Any, receive: Any, send: Any) -> None:
        streamed = False

        async def write(message: Any) -> None:
            nonlocal streamed
            if message["type"] == "http.response.start":
                streamed = b"content-length" not in dict(message.get("headers", ()))
                cycle.chunked_encoding = False if streamed else None
            elif streamed:
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, write)

    return run


class _TooLarge(Exception):
    """The head of a request is; ends its parsing."""


class LimitedHttp(HttpToolsProtocol):
    """One connection. A head that is too large or too slow ends it."""

    _head_bytes = 0
    _in_head = True
    _refusal = _BROKEN
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(_HEAD_PATIENCE_S, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """It left."""
        self._cancel_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes came: of a head, of a body, or of both."""
        if self._in_head and self._head_bytes > MOST_HEAD_BYTES:  # one endless header, which no callback shows
            self._refusal = _TOO_LARGE
            self.send_400_response("")
            return
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        self._cancel_timer()
        self._timer = self.loop.call_later(_HEAD_PATIENCE_S, self.transport.close)

    def on_url(self, url: bytes) -> None:
        """A piece of the URL."""
        super().on_url(url)
        self._check(len(self.url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        super().on_header(name, value)
        self._check(sum(len(each) + len(other) for each, other in self.headers) if len(self.headers) % 10 == 0 else 0)

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._check(sum(len(each) + len(other) for each, other in self.headers))
        self._in_head, self._head_bytes = False, 0
        self._cancel_timer()
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Run the application on a request."""
        super()._start_asgi_task(cycle, _unframed(app, cycle) if cycle.scope["http_version"] == "1.0" else app)

    def send_400_response(self, msg: str) -> None:
        """Refuse what was received, in the shape of OpenAI's errors, and hang up."""
        error = self._refusal
        head = [STATUS_LINE[error.status], b"connection: close\r\n", b"content-length: %d\r\n" % len(error.body)]
        head += [f"{name}: {value}\r\n".encode() for name, value in error.headers.items()]
        self.transport.write(b"".join([*head, b"\r\n", error.body]))
        self.transport.close()

    def _check(self, size: int) -> None:
        if size > MOST_HEAD_BYTES or len(self.headers) > MOST_HEADERS:
            self._refusal = _TOO_LARGE
            raise _TooLarge

    def _cancel_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
