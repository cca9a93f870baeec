"""gRPC over one HTTP/2 connection, in the event loop itself.

grpc.aio passes everything through a thread of its own, and costs 0.14 ms of processor time a message where this costs
0.05 (docs/performance.md). It knows what a client of Triton's needs: one message out a call.
"""

import asyncio
import struct
from urllib.parse import unquote

from hpack import Decoder, HPACKError

from clients.call import Call
from clients.wire import Unreachable, from_status
from contract import http2
from contract.errors import Cancelled, InternalError, RequestError
from contract.http2 import Broken, frame

_MOST_FRAME = 2**14  # bytes: HTTP/2's own measure, which we leave
_WINDOW = 2**16 - 1  # bytes of a call on their way, and of a connection until more is given: likewise
_WIDE = 2**31 - 1  # of a connection: what holds a server back are its calls' own windows
_LAST_STREAM = 2**31 - 1
_HEADER_TABLE_SIZE, _ENABLE_PUSH, _INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 0x1, 0x2, 0x4, 0x5
_MOST_BLOCKS = 256  # header blocks that are known again
_REFUSED_STREAM, _CANCEL = 0x7, 0x8
_HEAD = ((b":method", b"POST"), (b":scheme", b"http"))
_TAIL = ((b"te", b"trailers"), (b"content-type", b"application/grpc"))
_OPENING = (
    http2.PREFACE
    + frame(http2.SETTINGS, 0, 0, struct.pack(">HIHI", _HEADER_TABLE_SIZE, 0, _ENABLE_PUSH, 0))
    + frame(http2.WINDOW_UPDATE, 0, 0, (_WIDE - _WINDOW).to_bytes(4))
)

Headers = dict[bytes, bytes]


class _Stream:
    """A call's half of the connection."""

    def __init__(self, call: Call, window: int, unsent: bytes) -> None:
        self.call = call
        self.window = window  # bytes that the server takes
        self.unsent = unsent  # of our message


class Connection(asyncio.Protocol):
    """Calls of one server. ``takes``: it takes new ones.

    Args:
        authority: the server's name, as HTTP/2 is told.
    """

    def __init__(self, authority: str) -> None:
        self.takes = True
        self._head = http2.literals([*_HEAD, (b":authority", authority.encode())])
        self._streams: dict[int, _Stream] = {}
        self._next = 1
        self._kept = b""  # of a frame that is not whole
        self._block: tuple[int, int, bytes] | None = None  # stream, flags and a header block without its end
        self._decoder = Decoder()
        self._decoder.header_table_size = 0  # as our settings demand: a block means the same wherever it stands
        self._known: dict[bytes, Headers] = {}
        self._received = 0  # bytes of messages, since the connection's window was widened
        self._window = _WINDOW  # bytes that the server takes
        self._first_window = _WINDOW  # of a new stream
        self._most_frame = _MOST_FRAME  # bytes that the server takes at once
        self._transport: asyncio.WriteTransport | None = None

    def call(self, path: bytes, message: bytes, timeout_s: float | None) -> Call:
        """Begin a call: ``path`` is its method's, and ``message`` all that the server is told.

        Raises:
            Unreachable: the connection broke.
        """
        if self._transport is None:  # since it stood, for who waited for that
            raise Unreachable("the connection broke")
        number, self._next = self._next, self._next + 2
        self.takes &= self._next < _LAST_STREAM
        block = self._head + http2.literals([(b":path", path), *_TAIL])
        if timeout_s is not None:
            within = b"%dm" % min(99_999_999, max(1, round(1000 * timeout_s)))
            block += http2.literals([(b"grpc-timeout", within)])
        call = Call(lambda size: self._give_room(number, size), lambda: self._leave(number))
        unsent = b"\0" + len(message).to_bytes(4) + message
        self._streams[number] = stream = _Stream(call, self._first_window, unsent)
        self._send(number, stream, frame(http2.HEADERS, http2.END_HEADERS, number, block))
        if timeout_s is not None:
            call.expire_in(timeout_s)
        return call

    def close(self) -> None:
        """End it with all its calls."""
        self._fail(Cancelled("the connection was closed"))

    def connection_made(self, transport: asyncio.WriteTransport) -> None:  # type: ignore[override]
        """Of asyncio."""
        self._transport = transport
        transport.write(_OPENING)

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio."""
        self._transport = None
        self._fail(Unreachable("the connection broke" if exc is None else f"the connection broke: {exc}"))

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        data = self._kept + data
        at, size = 0, len(data)
        try:
            while size - at >= http2.HEAD:
                length, kind, flags, stream = http2.head_of(data, at)
                if length > _MOST_FRAME:
                    raise Broken(http2.FRAME_SIZE_ERROR)
                end = at + http2.HEAD + length
                if size < end:
                    break
                self._take(kind, flags, stream, data[at + http2.HEAD : end])
                at = end
        except (Broken, HPACKError, ValueError, struct.error) as error:
            self._fail(Unreachable(f"the server's HTTP/2 is broken: {error}"))
        self._kept = data[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """One frame."""
        if (self._block is not None) != (kind == http2.CONTINUATION):
            raise Broken
        if kind == http2.DATA:
            self._data(flags, stream, payload)
        elif kind == http2.HEADERS:
            self._headers(stream, flags, http2.unpadded(flags, payload))
        elif kind == http2.CONTINUATION and self._block:
            self._headers(stream, self._block[1] | flags & http2.END_HEADERS, self._block[2] + payload)
        elif kind == http2.WINDOW_UPDATE:
            self._widen(stream, int.from_bytes(payload))
        elif kind == http2.RST_STREAM:
            self._reset(stream, int.from_bytes(payload))
        elif kind == http2.SETTINGS and not flags & http2.ACK:
            self._settings(payload)
        elif kind == http2.PING and not flags & http2.ACK:
            self._write(frame(http2.PING, http2.ACK, 0, payload))
        elif kind == http2.GOAWAY:
            self._retire(int.from_bytes(payload[:4]) & 0x7FFFFFFF)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        self._received += len(payload)
        if self._received > _WIDE // 2:
            self._write(frame(http2.WINDOW_UPDATE, 0, 0, self._received.to_bytes(4)))
            self._received = 0
        stream = self._streams.get(number)
        if stream is None:  # it was left meanwhile
            return
        try:
            stream.call.take(http2.unpadded(flags & http2.PADDED, payload), len(payload))
        except InternalError as error:
            self._leave(number)
            stream.call.end(error)
        if flags & http2.END_STREAM:
            self._end(number, InternalError("the server ended the call without a status"))

    def _headers(self, number: int, flags: int, block: bytes) -> None:
        """A header block, whole or not yet."""
        if len(block) > 4 * _MOST_FRAME:
            raise Broken(http2.ENHANCE_YOUR_CALM)
        self._block = None if flags & http2.END_HEADERS else (number, flags, block)
        if self._block:
            return
        headers = self._known.get(block)
        if headers is None:
            headers = {bytes(name): bytes(value) for name, value in self._decoder.decode(block, raw=True)}
            if len(self._known) < _MOST_BLOCKS:
                self._known[block] = headers
        if flags & http2.END_STREAM:
            self._end(number, _status(headers))

    def _settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == _INITIAL_WINDOW_SIZE:
                gained, self._first_window = value - self._first_window, value
                for stream in self._streams.values():
                    stream.window += gained
            elif name == _MAX_FRAME_SIZE:
                self._most_frame = value
        self._write(frame(http2.SETTINGS, http2.ACK, 0))
        self._send_all()

    def _widen(self, number: int, size: int) -> None:
        if not number:
            self._window += size
            self._send_all()
        elif stream := self._streams.get(number):
            stream.window += size
            self._send(number, stream)

    def _send_all(self) -> None:
        for number, stream in list(self._streams.items()):
            if self._window <= 0:
                return
            self._send(number, stream)

    def _send(self, number: int, stream: _Stream, head: bytes = b"") -> None:
        """As much of a call's message as the server takes now, in one piece: each write is a call of the system."""
        frames = [head]
        while stream.unsent and (size := min(len(stream.unsent), self._most_frame, self._window, stream.window)) > 0:
            piece, stream.unsent = stream.unsent[:size], stream.unsent[size:]
            self._window -= size
            stream.window -= size
            frames.append(frame(http2.DATA, 0 if stream.unsent else http2.END_STREAM, number, piece))
        self._write(b"".join(frames))

    def _give_room(self, number: int, size: int) -> None:
        self._write(frame(http2.WINDOW_UPDATE, 0, number, size.to_bytes(4)))

    def _leave(self, number: int) -> None:
        """Tell the server that a call is left."""
        if self._streams.pop(number, None):
            self._write(frame(http2.RST_STREAM, 0, number, _CANCEL.to_bytes(4)))
            self._close_if_done()

    def _reset(self, number: int, code: int) -> None:
        if code == _CANCEL:
            self._end(number, Cancelled("the server cancelled the call"))
        elif code == _REFUSED_STREAM:
            self._end(number, Unreachable("the server takes no more calls"))
        else:
            self._end(number, InternalError(f"the server reset the call with HTTP/2 error {code}"))

    def _end(self, number: int, error: RequestError | None) -> None:
        """A call has ended."""
        stream = self._streams.get(number)
        if stream is None:
            return
        if stream.unsent:
            self._write(frame(http2.RST_STREAM, 0, number, _CANCEL.to_bytes(4)))
        del self._streams[number]
        stream.call.end(error)
        self._close_if_done()

    def _retire(self, last: int) -> None:
        """The server goes: it ends what it has begun, and nothing else."""
        self.takes = False
        for number in [number for number in self._streams if number > last]:
            self._end(number, Unreachable("the server is going"))
        self._close_if_done()

    def _close_if_done(self) -> None:
        if not self.takes and not self._streams and self._transport:
            self._transport.close()

    def _fail(self, error: RequestError) -> None:
        self.takes = False
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.call.end(error)
        if self._transport:
            self._transport.close()

    def _write(self, data: bytes) -> None:
        if self._transport and data:
            self._transport.write(data)


def _status(headers: Headers) -> RequestError | None:
    """How a call ended, by its trailers."""
    if b"grpc-status" not in headers:
        return InternalError(f"this is no gRPC: status {headers.get(b':status', b'?').decode('latin-1')}")
    code = int(headers[b"grpc-status"])
    return from_status(code, unquote(headers.get(b"grpc-message", b"").decode("latin-1"))) if code else None
