"""HTTP/2 as far as the filter speaks it itself: whole frames, headers that need no table, answers of gRPC errors."""

from collections.abc import Iterable, Iterator
from urllib.parse import quote

import grpc

from contract.errors import RequestError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = 9  # bytes of a frame before its payload
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x1, 0x4, 0x8, 0x20
PROTOCOL_ERROR, FRAME_SIZE_ERROR, CANCEL, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 0x1, 0x6, 0x8, 0x9, 0xB


class Broken(Exception):
    """What came is no HTTP/2 that could go on; ``code`` is HTTP/2's."""

    def __init__(self, code: int = PROTOCOL_ERROR) -> None:
        self.code = code
        super().__init__(f"HTTP/2 error {code}")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return b"%b%c%c%b%b" % (len(payload).to_bytes(3), kind, flags, stream.to_bytes(4), payload)


def head_of(data: bytes | bytearray, at: int) -> tuple[int, int, int, int]:
    """Length of the payload, kind, flags and stream of the frame that begins there."""
    stream = int.from_bytes(data[at + 5 : at + 9]) & 0x7FFFFFFF
    return int.from_bytes(data[at : at + 3]), data[at + 3], data[at + 4], stream


class Heads:
    """Finds the heads of frames in bytes that come in any pieces."""

    def __init__(self) -> None:
        self.kept = b""  # a head, as far as it came: to be put before the bytes that follow
        self._payload = 0  # bytes of the last frame still to come
        self._in_block = False

    @property
    def between(self) -> bool:
        """Whether a frame of another's may follow what was read."""
        return not self._payload and not self._in_block

    def of(self, data: bytes) -> Iterator[tuple[int, int, int, int]]:
        """Where each frame that begins there does, and its kind, flags and stream."""
        at = min(self._payload, len(data))
        self._payload -= at
        while not self._payload and len(data) - at >= HEAD:
            length, kind, flags, stream = head_of(data, at)
            if kind in (HEADERS, CONTINUATION):
                self._in_block = not flags & END_HEADERS
            yield at, kind, flags, stream
            at += HEAD + length
            self._payload = max(0, at - len(data))
        self.kept = data[at:]


def unpadded(flags: int, payload: bytes) -> bytes:
    """A DATA or HEADERS frame's payload without padding and priority.

    Raises:
        Broken: they exceed it.
    """
    padding = 0
    if flags & PADDED:
        padding, payload = payload[0] if payload else 1, payload[1:]
    if flags & PRIORITIZED:
        padding, payload = padding + (5 - len(payload[:5])), payload[5:]
    if padding > len(payload):
        raise Broken
    return payload[: len(payload) - padding]


def literals(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A header block that reads and changes no table, so that it fits into any place of any connection."""
    return b"".join(b"\x10" + _string(name) + _string(value) for name, value in headers)


def _string(text: bytes) -> bytes:
    size = len(text)
    if size < 127:
        return bytes([size]) + text
    size -= 127
    prefix = bytearray([127])
    while size >= 128:
        prefix.append(size % 128 + 128)
        size //= 128
    return bytes([*prefix, size]) + text


def refusal(stream: int, error: RequestError, *, begun: bool) -> bytes:
    """The frames that end a call with an error.

    Args:
        begun: whether the call's answer has its first headers already.
    """
    status = grpc.StatusCode[error.codes.grpc].value[0]
    message = quote(error.to_wire(), safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}")
    headers = [(b"grpc-status", b"%d" % status), (b"grpc-message", message.encode())]
    if not begun:
        headers[:0] = [(b":status", b"200"), (b"content-type", b"application/grpc")]
    ended = frame(HEADERS, END_HEADERS | END_STREAM, stream, literals(headers))
    return ended + frame(RST_STREAM, 0, stream, (0).to_bytes(4))  # nothing more of it is read
