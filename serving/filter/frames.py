"""What the filter reads of Triton's frames, and the frames that refuse a call in its place."""

from collections.abc import Iterator
from urllib.parse import quote

import grpc

from contract import http2
from contract.errors import RequestError


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
        while not self._payload and len(data) - at >= http2.HEAD:
            length, kind, flags, stream = http2.head_of(data, at)
            if kind in (http2.HEADERS, http2.CONTINUATION):
                self._in_block = not flags & http2.END_HEADERS
            yield at, kind, flags, stream
            at += http2.HEAD + length
            self._payload = max(0, at - len(data))
        self.kept = data[at:]


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
    ended = http2.frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, stream, http2.literals(headers))
    return ended + http2.frame(http2.RST_STREAM, 0, stream, (0).to_bytes(4))  # nothing more of it is read
