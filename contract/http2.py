"""HTTP/2 as far as we speak it ourselves: whole frames, and headers that need no table."""

from collections.abc import Iterable

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
