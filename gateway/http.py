"""uvicorn's HTTP protocol with what it lacks: limits on heads and trailers, on every wait, and HTTP/1.0 streams."""

import asyncio
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.errors import INVALID, ApiError
from gateway.interrupt import Peer

MOST_HEADERS = 100
MOST_HEAD_BYTES = 64 * 1024
_HEAD_PATIENCE_S = 30.0
_BODY_PATIENCE_S = 40.0  # where nobody reads it; who does gives it up before, and says so (gateway/arrival.py)
_FLUSH_S = 30.0  # for a client to take the rest of an answer behind which the connection is closed
_LINGER_S = 5.0  # for a client to read its answer, though it has not sent all that it wanted to

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


class _WithHead:
    """A connection as one answer writes to it: the head waits for what follows it, and both are one send."""

    def __init__(self, transport: asyncio.Transport, cycle: RequestResponseCycle) -> None:
        self._transport = transport
        self._cycle = cycle
        self._head: bytes | None = None
        self._begun = False

    def write(self, data: bytes) -> None:
        """Send it, or keep it where it is the head."""
        if self._cycle.response_started and not self._begun:
            self._begun, self._head = True, data
        else:
            self._transport.write(self._taken() + data)

    def close(self) -> None:
        """Close the connection behind what was written."""
        if self._head:
            self._transport.write(self._taken())
        self._transport.close()

    def is_closing(self) -> bool:
        """As the connection."""
        return self._transport.is_closing()

    def _taken(self) -> bytes:
        head, self._head = self._head or b"", None
        return head


class _TooLarge(Exception):
    """The head of a request is; ends its parsing."""


class LimitedHttp(HttpToolsProtocol):
    """One connection. A head or a trailer that is too large ends it, and so does each state that lasts too long:

    waiting for a head, reading one, reading a body, an answer before the body's end, waiting for the next request.
    Only an answer under way has no limit here; the stream has its own.
    """

    _framing = 0  # bytes since the last of a body: of a head, of trailers, around chunks
    _grew = False
    _in_head = True
    _in_message = False
    _refusal = _BROKEN
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected."""
        super().connection_made(transport)
        self._peer = Peer(self.flow)
        self._allow(_HEAD_PATIENCE_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """It left."""
        self._cancel_timer()
        super().connection_lost(exc)
        self._peer.leave()

    def data_received(self, data: bytes) -> None:
        """Bytes came: of a head, of a body, or of both."""
        if self._framing > MOST_HEAD_BYTES:  # one endless header or trailer, which no callback shows
            self._refusal = _TOO_LARGE
            self.send_400_response("")
            return
        self._grew = False
        super().data_received(data)
        self._framing = 0 if self._grew else self._framing + len(data)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head = self._in_message = self._grew = True
        self._allow(_HEAD_PATIENCE_S)

    def on_url(self, url: bytes) -> None:
        """A piece of the URL."""
        super().on_url(url)
        self._check(len(self.url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; a trailer is none."""
        if self._in_head:
            super().on_header(name, value)
            every = len(self.headers) % 10 == 0
            self._check(sum(len(each) + len(other) for each, other in self.headers) if every else 0)

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._check(sum(len(each) + len(other) for each, other in self.headers))
        self._in_head, self._grew = False, True
        super().on_headers_complete()
        if self.pipeline:  # nothing is read before its turn
            self._cancel_timer()
        else:
            self._allow(_BODY_PATIENCE_S)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._grew = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._in_message = False
        super().on_message_complete()
        if self.cycle.response_complete:
            self._allow(self.timeout_keep_alive)
        else:
            self._cancel_timer()

    def on_response_complete(self) -> None:
        """An answer is."""
        waited = bool(self.pipeline)
        super().on_response_complete()
        self._unset_keepalive_if_required()  # any byte would stop that timer, an empty line for one
        if self.transport.is_closing():
            self._allow(_FLUSH_S)
        elif self._in_message and not self._in_head:
            self._allow(_LINGER_S if self.cycle.response_complete else _BODY_PATIENCE_S)
        elif not waited and not self._in_message:
            self._allow(self.timeout_keep_alive)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Run the application on a request."""
        cycle.scope["peer"] = self._peer  # type: ignore[typeddict-unknown-key]
        if cycle.scope["method"] != "HEAD":  # its answers are heads alone
            cycle.transport = _WithHead(self.transport, cycle)  # type: ignore[assignment]
        super()._start_asgi_task(cycle, _unframed(app, cycle) if cycle.scope["http_version"] == "1.0" else app)

    def send_400_response(self, msg: str) -> None:
        """Refuse what was received, in the shape of OpenAI's errors, and hang up; in an answer, hang up alone."""
        error = self._refusal
        if self.cycle is None or (self.cycle.response_complete if self._in_head else not self.cycle.response_started):
            head = [STATUS_LINE[error.status], b"connection: close\r\n", b"content-length: %d\r\n" % len(error.body)]
            head += [f"{name}: {value}\r\n".encode() for name, value in error.headers.items()]
            self.transport.write(b"".join([*head, b"\r\n", error.body]))
        self._close()

    def _check(self, size: int) -> None:
        if size > MOST_HEAD_BYTES or len(self.headers) > MOST_HEADERS:
            self._refusal = _TOO_LARGE
            raise _TooLarge

    def _allow(self, seconds: float) -> None:
        """Close the connection unless its state changes within so long."""
        self._cancel_timer()
        self._timer = self.loop.call_later(seconds, self._close)

    def _close(self) -> None:
        """Close it; what its client does not take of the last answer is thrown away in the end."""
        if self.transport.is_closing():
            self.transport.abort()
            return
        self.transport.close()
        self._allow(_FLUSH_S)

    def _cancel_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
