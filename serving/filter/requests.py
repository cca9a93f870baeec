"""The HTTP door: a request is read whole, checked, and written anew for Triton, with what matters and nothing else.

Each goes over a connection to Triton of its own, which a client that leaves takes along: one request knows nothing of
another. An answer passes as it is, and is parsed beside that for its end alone.
"""

import asyncio
import json
import re
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus

import httptools

from contract.errors import InvalidRequest, Overloaded, RequestError, Unavailable
from serving.filter.relay import MOST_BYTES, MOST_HEAD_BYTES, Answers, Relay
from serving.filter.tensors import check_json, too_large, unpack
from serving.triton import ADMIN_HEADER

_MOST_HEADERS = 100
_HEAD_TOO_LARGE = f"[invalid_request] the headers exceed {_MOST_HEADERS} or {MOST_HEAD_BYTES} bytes"
_LINGER_S = 2.0  # for a client to read its refusal, though it has not sent all that it wanted to
_PATH = re.compile(rb"/[A-Za-z0-9_./~-]{0,300}")
_PASSED = (b"content-type", ADMIN_HEADER.encode())
_VALUE = re.compile(rb"[ -~]{0,200}")
_JSON_SIZE = b"inference-header-content-length"


@dataclass
class Request:
    """A client's, as far as it came."""

    method: bytes = b""
    target: bytes = b""
    version: str = "1.1"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)

    def value(self, name: bytes) -> bytes:
        """A header's.

        Raises:
            InvalidRequest: there are several.
        """
        values = [value for each, value in self.headers if each == name]
        if len(values) > 1:
            raise InvalidRequest("given twice", field=name.decode(), fix="Give it once")
        return values[0] if values else b""


@dataclass(frozen=True)
class Turn:
    """What is to be done for a request when its turn has come: Triton asked, or the client told."""

    ask: bytes = b""
    tell: bytes = b""
    keep: bool = True  # the connection, afterwards


def rewritten(request: Request) -> bytes:
    """The request as Triton gets it.

    Raises:
        InvalidRequest: it names the field.
    """
    path, body = request.target.partition(b"?")[0], bytes(request.body)
    if request.method not in (b"GET", b"POST"):
        raise InvalidRequest("Triton knows GET and POST", field="method")
    if not _PATH.fullmatch(path):
        raise InvalidRequest("no path of Triton's has such letters, or is so long", field="path")
    encoding = request.value(b"content-encoding").decode("latin-1").lower()
    if encoding not in ("", "identity"):
        body = unpack(body, encoding)
    lines = [b"%b %b HTTP/%b" % (request.method, path, request.version.encode()), b"Host: localhost"]
    for name in _PASSED:
        if (value := request.value(name)) and _VALUE.fullmatch(value):
            lines.append(name + b": " + value)
    tensors, size = path.endswith(b"/infer"), request.value(_JSON_SIZE)
    if size and tensors:
        if not re.fullmatch(rb"\d{1,9}", size) or int(size) > len(body):
            raise InvalidRequest(f"must be at most the body's {len(body)} bytes", field=_JSON_SIZE.decode())
        lines.append(_JSON_SIZE + b": " + size)
    described = body[: int(size)] if size and tensors else body
    if described:
        check_json(described, len(body), tensors=tensors)
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


def told(status: int, text: str, *, keep: bool) -> bytes:
    """An error, as Triton words it."""
    body = json.dumps({"error": text}).encode()
    close = "" if keep else "Connection: close\r\n"
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n{close}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class HttpRelay(Relay):
    """One connection of a client's; requests are answered in their order."""

    def __init__(self, door: str) -> None:
        super().__init__(door)
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request()
        self._in_head = True
        self._framing = 0  # bytes since the last of a body: of a head, of trailers, around chunks
        self._grew = self._deaf = False
        self._turns: deque[Turn] = deque()
        self._turn: Turn | None = None  # under way
        self._crowded = False  # others wait behind it
        self._answers = httptools.HttpResponseParser(_End(self))
        self._asking: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        """The client sent something."""
        if self._deaf:
            return
        self._grew = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # nothing is upgraded; the request itself is answered
            self._deaf = True
            self._enqueue(Turn(keep=False))
        except httptools.HttpParserError:
            self._refuse(400, "[invalid_request] this is not HTTP")
        self._framing = 0 if self._grew else self._framing + len(data)
        if self._framing > MOST_HEAD_BYTES:
            self._refuse(431, _HEAD_TOO_LARGE)
        if not self.hold(len(self._request.body) + sum(len(turn.ask) for turn in self._turns)):
            self._refuse(503, Overloaded("too much is unfinished", fix="Try again").to_wire())

    def on_message_begin(self) -> None:
        """A request begins."""
        self._request = Request()
        self._in_head = self._grew = True
        self.began = time.monotonic()

    def on_url(self, url: bytes) -> None:
        """A piece of its target."""
        self._request.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; a trailer is none."""
        headers = self._request.headers
        if self._in_head and len(headers) <= _MOST_HEADERS:
            headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Its head is there."""
        self._in_head, self._grew = False, True
        request = self._request
        request.method, request.version = self._parser.get_method(), self._parser.get_http_version()
        size = len(request.target) + sum(len(name) + len(value) for name, value in request.headers)
        if len(request.headers) > _MOST_HEADERS or size > MOST_HEAD_BYTES:
            self._refuse(431, _HEAD_TOO_LARGE)
        elif int(dict(request.headers).get(b"content-length", b"0")) > MOST_BYTES:
            self._refuse(413, too_large("").to_wire())
        elif dict(request.headers).get(b"expect", b"").lower() == b"100-continue" and not self._turn:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A piece of its body."""
        self._grew = True
        if self._deaf:
            return
        self._request.body += body
        if len(self._request.body) > MOST_BYTES:
            self._refuse(413, too_large("").to_wire())

    def on_message_complete(self) -> None:
        """It is whole."""
        self.began = None
        if self._deaf:
            return
        keep = self._parser.should_keep_alive()
        try:
            turn = Turn(ask=rewritten(self._request), keep=keep)
        except RequestError as error:
            turn = Turn(tell=told(error.codes.http, error.to_wire(), keep=keep), keep=keep)
        self._request = Request()
        self._enqueue(turn)

    def _refuse(self, status: int, text: str) -> None:
        """Tell the client, after the answers that it waits for; nothing more of what it sends is read."""
        if not self._deaf:
            self._deaf, self._request, self.began = True, Request(), None
            self._enqueue(Turn(tell=told(status, text, keep=False), keep=False))

    def _enqueue(self, turn: Turn) -> None:
        self._turns.append(turn)
        self._next()

    def _next(self) -> None:
        """Begin the next turn, if none is under way; while others wait behind it, the client's next are not read."""
        while self._turns and not self._turn and not self.transport.is_closing():
            turn = self._turns.popleft()
            if turn.ask:
                self._turn, self._answers = turn, httptools.HttpResponseParser(_End(self))
                self._asking = asyncio.get_running_loop().create_task(self._ask(turn.ask))
                continue
            self.transport.write(turn.tell)
            if not turn.keep:
                self._leave()
        if bool(self._turns) != self._crowded:
            self._crowded = bool(self._turns)
            (self.halt if self._crowded else self.proceed)()

    async def _ask(self, request: bytes) -> None:
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: Answers(self), self.door)
        except OSError:
            self.transport.write(told(503, Unavailable("the server is being started").to_wire(), keep=False))
            self._end(keep=False)
            return
        assert self.server
        if self.transport.is_closing():
            self.server.abort()
        else:
            self.server.write(request)

    def answered(self, data: bytes) -> None:
        """Pass Triton's bytes on."""
        self.transport.write(data)
        try:
            self._answers.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def whole(self) -> None:
        """Triton's answer is."""
        server, self.server = self.server, None
        if server and self._turn:
            server.abort()
            self._end(keep=self._turn.keep)

    def hung_up(self) -> None:
        """Triton's answer broke off: its client must not wait for the rest."""
        self._end(keep=False)

    def _end(self, *, keep: bool) -> None:
        """A turn is over."""
        self._turn = None
        if keep:
            self._next()
        else:
            self._leave()

    def _leave(self) -> None:
        """Hang up behind what was written."""
        self._deaf, self._turns = True, deque()
        with suppress(OSError, RuntimeError):
            self.transport.write_eof()
        asyncio.get_running_loop().call_later(_LINGER_S, self.transport.close)


@dataclass
class _End:
    """What is heard of an answer."""

    relay: HttpRelay

    def on_message_complete(self) -> None:
        """It is whole."""
        self.relay.whole()
