"""The instant upstream as OpenAI's: one answer from memory over HTTP, which is what other gateways ask."""

import asyncio
import json
from typing import cast

from loadtests.gateway_peers import answers

PATH = "/v1/chat/completions"


def _framed(status: str, kind: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        status.encode(),
        kind.encode(),
        len(body),
        body,
    )


def _refusal(status: str, message: str) -> bytes:
    return _framed(status, "application/json", json.dumps({"error": {"message": message}}).encode())


_WHOLE = _framed("200 OK", "application/json", answers.whole())
_STREAMED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % (
    b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in answers.events())
)


class OpenAi(asyncio.Protocol):
    """One connection, kept for as many requests as come."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        data = self._rest + data
        while (head_ends := data.find(b"\r\n\r\n")) >= 0:
            head = data[:head_ends]
            ends = head_ends + 4 + _length(head)
            if len(data) < ends:
                break
            self._transport.write(_answer(head, data[head_ends + 4 : ends]))
            data = data[ends:]
        self._rest = data


def _length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


def _answer(head: bytes, body: bytes) -> bytes:
    path = head.split(b" ", 2)[1].decode()
    if path != PATH:
        return _refusal("404 Not Found", f"{path} is not here")
    try:
        stream = json.loads(body).get("stream")
    except (ValueError, AttributeError):
        return _refusal("400 Bad Request", "the body must be a JSON object with a Content-Length")
    return _STREAMED if stream else _WHOLE
