"""Bodies that come compressed: unpacked within the limit that an unpacked body has, so that a bomb is refused."""

import zlib
from collections.abc import Callable
from typing import Protocol

from backports import zstd

from gateway.errors import INVALID, ApiError, Refused, refuse

_WIDEST_ZSTD_WINDOW = 23  # 8 MiB: what every decoder must take (RFC 9659)


class TooLong(Exception):
    """There is more than was allowed."""


class _Frame(Protocol):
    """One compressed stream. ``eof``: it is whole; ``unused_data``: what stood behind it."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _zstd() -> _Frame:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WIDEST_ZSTD_WINDOW})


_FRAMES: dict[str, Callable[[bytes], _Frame]] = {
    "gzip": lambda _: zlib.decompressobj(31),
    "x-gzip": lambda _: zlib.decompressobj(31),
    # What HTTP calls deflate has zlib's head, which some clients leave out.
    "deflate": lambda body: zlib.decompressobj(15 if body[:1] and body[0] & 15 == 8 else -15),
    "zstd": lambda _: _zstd(),
}
_MOST_FRAMES = 64  # one behind the other: each costs a copy of what is left
_TAKEN = "gzip, deflate, zstd"
_BROKEN = (zlib.error, zstd.ZstdError)


def decoder_of(encoding: str) -> Callable[[bytes, int], bytes]:
    """What unpacks bodies of a Content-Encoding, given the body and the most bytes that may come of it.

    It raises Refused for what is not of this encoding, and TooLong.

    Raises:
        Refused: with status 415, for an encoding that is not taken.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return lambda body, _: body
    if encoding not in _FRAMES:
        message = f"Content-Encoding: {encoding!r:.40} is not taken; send {_TAKEN}, or none"
        raise Refused(ApiError(415, message, INVALID, "unsupported_encoding", "Content-Encoding", accepts=_TAKEN))
    return lambda body, most_bytes: _unpacked(body, encoding, most_bytes)


def _unpacked(body: bytes, encoding: str, most_bytes: int) -> bytes:
    unpacked = b""
    try:
        for _ in range(_MOST_FRAMES):
            frame = _FRAMES[encoding](body)
            unpacked += frame.decompress(body, most_bytes + 1 - len(unpacked))
            if len(unpacked) > most_bytes:
                raise TooLong
            if not frame.eof:
                break
            body = frame.unused_data
            if not body:
                return unpacked
    except _BROKEN:
        pass
    message = f"the body is not {encoding}, or of more than {_MOST_FRAMES} frames"
    raise refuse(message, param="Content-Encoding", code="invalid_encoding")
