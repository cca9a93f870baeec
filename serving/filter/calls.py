"""The gRPC door: every frame of the client's is read, every message of an inference checked before its end passes.

A message passes piece by piece as it comes, so that the flow control between the two ends stays theirs alone; the piece
that would complete a bad one is kept, and Triton's side of the call is reset. The client gets its error where Triton
has confirmed to have read that (an empty SETTINGS frame of ours): nothing of that call can follow.
"""

import asyncio
import socket
import time
from collections import deque
from collections.abc import Container
from contextlib import suppress

from hpack import Decoder, HPACKError

from contract import http2
from contract.errors import InvalidRequest, Overloaded, RequestError
from contract.http2 import Broken, frame
from contract.stage import ABORT
from serving.filter.call import Call, admit
from serving.filter.frames import Heads, refusal
from serving.filter.relay import MOST_BYTES, MOST_HEAD_BYTES, PATIENCE_S, Answers, Relay

_MOST_FRAME_BYTES = 4 * 2**20  # what Triton tells its clients
_MOST_CALLS = 1024  # of a connection
_MOST_SETTINGS = 64  # that Triton has not confirmed
_CANCEL = http2.CANCEL.to_bytes(4)
_ROOM = MOST_BYTES.to_bytes(4)
_AGAIN_S = 0.35
_ABORTS = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
_LENGTHS = {http2.RST_STREAM: 4, http2.WINDOW_UPDATE: 4, http2.PING: 8}


class GrpcRelay(Relay):
    """One connection of a client's.

    Args:
        aborts: the socket on which the engine is told to stop a request.
        streaming: the models that answer by several responses.
    """

    def __init__(self, door: str, aborts: str, streaming: Container[str]) -> None:
        super().__init__(door)
        self._aborts, self._streaming = aborts, streaming
        self._received = bytearray()
        self._forward: list[bytes] = []
        self._calls: dict[int, Call] = {}
        self._newest = 0  # the highest stream so far
        self._decoder = Decoder(MOST_HEAD_BYTES)
        self._block: tuple[int, int, bytes] | None = None  # stream, flags and a header block without its end
        self._confirmations: deque[int] = deque()  # Triton owes them: 0 for the client, else the stream that we reset
        self._heads = Heads()  # of Triton's frames
        self._late: list[bytes] = []  # ours, for the next place between two frames
        self._connecting: asyncio.Task[None] | None = None

    def overdue(self, now: float) -> bool:
        """Whether the connection, or a message on it, has taken too long."""
        late = any(call.began and now - call.began > PATIENCE_S for call in self._calls.values())
        return late or super().overdue(now)

    def data_received(self, data: bytes) -> None:
        """The client sent something."""
        self._received += data
        if self.server is None:
            if not http2.PREFACE.startswith(bytes(self._received[:24])):
                self.transport.abort()
            elif len(self._received) >= len(http2.PREFACE) and not self._connecting:
                self.halt()
                self._connecting = asyncio.get_running_loop().create_task(self._connect())
            return
        broken = 0
        try:
            used = self._read()
            del self._received[:used]
            if not self.hold(len(self._received) + sum(len(call.partial) for call in self._calls.values())):
                raise Broken(http2.ENHANCE_YOUR_CALM)
        except (Broken, HPACKError) as error:
            broken = error.code if isinstance(error, Broken) else http2.COMPRESSION_ERROR
        if self._forward:
            self.server.write(b"".join(self._forward))
            self._forward.clear()
        self.began = (self.began or time.monotonic()) if self._received or self._block else None
        if broken:
            self._inject(frame(http2.GOAWAY, 0, 0, self._newest.to_bytes(4) + broken.to_bytes(4)))
            self._close()

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: Answers(self), self.door)
        except OSError:  # as a port that nobody listens on
            self.transport.abort()
            return
        assert self.server
        if self.transport.is_closing():
            self.server.abort()
            return
        self.server.write(http2.PREFACE)
        del self._received[: len(http2.PREFACE)]
        self.proceed()
        self.data_received(b"")

    def pause_writing(self) -> None:
        """The client does not read: what it sends would only make more that it does not read."""
        super().pause_writing()
        self.halt()

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self.proceed()

    def hung_up(self) -> None:
        """Triton closed the connection: so do we."""
        self._calls.clear()
        self._close()

    def _close(self) -> None:
        self.began = self.began or time.monotonic()
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left: its calls end, and the connection to Triton with the last of them."""
        resets = [frame(http2.RST_STREAM, 0, each, _CANCEL) for each in list(self._calls) if self._leave(each)]
        if not self.server or not self._calls:
            super().connection_lost(exc)
            return
        Relay.all.discard(self)
        self.hold(0)
        self.server.resume_reading()
        self.server.write(b"".join([*self._forward, *resets, frame(http2.WINDOW_UPDATE, 0, 0, _ROOM)]))

    def _leave(self, stream: int) -> bool:
        """The client takes no more of a call; whether Triton is to be told."""
        call = self._calls.get(stream)
        if not call or not call.key or not call.asked:
            self._calls.pop(stream, None)
            return call is not None and not call.refused
        if not call.left:
            call.left = True
            self._forward.append(frame(http2.WINDOW_UPDATE, 0, stream, _ROOM))  # for the rest, which nobody reads
            self._stop(stream, call)
        return False

    def _stop(self, stream: int, call: Call) -> None:
        """Tell the engine to stop, until the call has ended: it may not have begun."""
        if self._calls.get(stream) is call:
            with suppress(OSError):
                _ABORTS.sendto(ABORT.pack(call.key), self._aborts)
            asyncio.get_running_loop().call_later(_AGAIN_S, self._stop, stream, call)

    def _read(self) -> int:
        """Read the frames that are whole; how many bytes they had."""
        at = 0
        while len(self._received) - at >= http2.HEAD:
            length, kind, flags, stream = http2.head_of(self._received, at)
            if length > (_MOST_FRAME_BYTES if kind == http2.DATA else MOST_HEAD_BYTES):
                raise Broken(http2.FRAME_SIZE_ERROR)
            end = at + http2.HEAD + length
            if len(self._received) < end:
                break
            self._take(kind, flags, stream, bytes(self._received[at + http2.HEAD : end]))
            at = end
        return at

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """One frame of the client's."""
        if (self._block is not None) != (kind == http2.CONTINUATION):
            raise Broken
        if len(payload) != _LENGTHS.get(kind, len(payload)):
            raise Broken(http2.FRAME_SIZE_ERROR)
        if kind == http2.DATA:
            self._data(flags, stream, payload)
        elif kind == http2.HEADERS:
            self._headers(stream, flags, http2.unpadded(flags, payload))
        elif kind == http2.CONTINUATION and self._block and self._block[0] == stream:
            self._headers(stream, self._block[1] | flags & http2.END_HEADERS, self._block[2] + payload)
        elif kind in (http2.CONTINUATION, http2.PUSH_PROMISE):
            raise Broken
        elif kind == http2.RST_STREAM:
            if stream > self._newest or not stream:
                raise Broken
            if self._leave(stream):
                self._forward.append(frame(kind, 0, stream, payload))
        elif kind == http2.SETTINGS:
            self._settings(flags, stream, payload)
        elif kind == http2.WINDOW_UPDATE:
            if not stream or stream in self._calls:
                self._forward.append(frame(kind, 0, stream, payload))
        elif kind in (http2.PING, http2.GOAWAY):
            self._forward.append(frame(kind, flags & http2.ACK, 0, payload))

    def _settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream or len(payload) % 6 or (flags & http2.ACK and payload):
            raise Broken(http2.FRAME_SIZE_ERROR)
        if not flags & http2.ACK:
            self._confirm(0)
        self._forward.append(frame(http2.SETTINGS, flags & http2.ACK, 0, payload))

    def _confirm(self, stream: int) -> None:
        self._confirmations.append(stream)
        if len(self._confirmations) > _MOST_SETTINGS + _MOST_CALLS * bool(stream):
            raise Broken(http2.ENHANCE_YOUR_CALM)

    def _headers(self, stream: int, flags: int, block: bytes) -> None:
        """A header block, whole or not yet."""
        if len(block) > MOST_HEAD_BYTES:
            raise Broken(http2.ENHANCE_YOUR_CALM)
        self._block = None if flags & http2.END_HEADERS else (stream, flags, block)
        if self._block:
            return
        headers = {bytes(name): bytes(value) for name, value in self._decoder.decode(block, raw=True)}
        if stream <= self._newest or not stream % 2:
            raise Broken
        self._newest = stream
        try:
            call, opening = admit(headers, self._streaming)
            if len(self._calls) >= _MOST_CALLS:
                raise Overloaded(f"this connection has {_MOST_CALLS} calls", fix="Wait for one to end")
        except RequestError as error:
            self._inject(refusal(stream, error, begun=False))
            return
        self._calls[stream] = call
        call.open = not flags & http2.END_STREAM
        flags = http2.END_HEADERS | flags & http2.END_STREAM
        self._forward.append(frame(http2.HEADERS, flags, stream, opening))

    def _data(self, flags: int, stream: int, payload: bytes) -> None:
        """A piece of a message."""
        if stream > self._newest or not stream:
            raise Broken
        size, payload = len(payload), http2.unpadded(flags & http2.PADDED, payload)
        call = self._calls.get(stream)
        if not call or not call.open or call.refused:
            self._credit(size)
            return
        call.open = not flags & http2.END_STREAM
        if call.key and call.asked:  # a second message, which nobody would read
            self._credit(size)
            size, payload = 0, b""
        try:
            call.take(payload)
        except InvalidRequest as error:
            self._credit(size)
            call.refused, call.partial, call.began, call.asked = error, bytearray(), None, False
            self._confirm(stream)
            self._forward += [
                frame(http2.RST_STREAM, 0, stream, _CANCEL),
                frame(http2.SETTINGS, 0, 0),
            ]
            return
        if size > len(payload):
            self._credit(size - len(payload))
            self._credit(size - len(payload), stream)
        if payload or not call.open:
            self._forward.append(frame(http2.DATA, flags & http2.END_STREAM, stream, payload))

    def _credit(self, size: int, stream: int = 0) -> None:
        """Give the client back what it was allowed to send, where Triton will not: it never sees it."""
        if size:
            self._inject(frame(http2.WINDOW_UPDATE, 0, stream, size.to_bytes(4)))

    def _inject(self, frames: bytes) -> None:
        """Frames of ours to the client, between two of Triton's."""
        if self._heads.between:
            self._tell(frames)
        else:
            self._late.append(frames)

    def _tell(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    def answered(self, data: bytes) -> None:
        """Pass Triton's bytes on; of its frames only the heads are read."""
        data, start = self._heads.kept + data, 0
        for at, kind, flags, stream in self._heads.of(data):
            if kind == http2.SETTINGS and flags & http2.ACK and (ours := self._next_confirmed()):
                self._tell(data[start:at] + self._told(ours))
                start = at + http2.HEAD
            elif kind <= http2.RST_STREAM and stream in self._calls:
                self._calls[stream].begun = True
                if kind == http2.RST_STREAM or flags & http2.END_STREAM:
                    del self._calls[stream]
        end = len(data) - len(self._heads.kept)
        if end > start:
            self._tell(data if end - start == len(data) else data[start:end])
        if self._late and self._heads.between:
            self._tell(b"".join(self._late))
            self._late.clear()
        if self.server and not self._calls and self not in Relay.all:
            self.server.abort()

    def _next_confirmed(self) -> int:
        return self._confirmations.popleft() if self._confirmations else 0

    def _told(self, stream: int) -> bytes:
        """What a client is told of a call that was reset; nothing where Triton has ended it, or the client itself."""
        call = self._calls.pop(stream, None)
        return refusal(stream, call.refused, begun=call.begun) if call and call.refused else b""
