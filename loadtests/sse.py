"""One streamed HTTP response read line by line as its bytes arrive: framing and lines, without a socket.

asyncio and gevent each bring their own socket; what the bytes mean is decided here, once. Lines are split while they
are bytes, so a character that two packets share is never broken.
"""

import httptools


class StreamedResponse:
    """Fed with what the socket gave; hands out the body's whole lines."""

    def __init__(self) -> None:
        self.status = 0
        self.retry_after_s = 0  # of a refusal
        self.ended = False  # as the framing says; a body without framing ends with its connection
        self._framed = False
        self._parser = httptools.HttpResponseParser(self)
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that these bytes complete, without their ends; the last one of a body needs none.

        Raises:
            httptools.HttpParserError: this is not HTTP.
        """
        self._parser.feed_data(data)
        if not self.ended and b"\n" not in data:
            return []
        *lines, self._rest = self._rest.split(b"\n")
        if self.ended and self._rest:
            lines.append(self._rest)
            self._rest = b""
        return [line.rstrip(b"\r") for line in lines]

    def cut(self) -> bool:
        """Whether a connection that closes now cuts the response short."""
        return not self.ended and (self._framed or not self.status)

    def rest(self) -> bytes:
        """What came after the last line end, once the connection has closed."""
        return self._rest

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of httptools."""
        name = name.lower()
        self._framed |= name in {b"content-length", b"transfer-encoding"}
        if name == b"retry-after" and value.isdigit():
            self.retry_after_s = int(value)

    def on_headers_complete(self) -> None:
        """Of httptools."""
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Of httptools."""
        self._rest += body

    def on_message_complete(self) -> None:
        """Of httptools."""
        self.ended = True


def request(host: str, path: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    """The bytes of a POST of JSON, on a connection of its own."""
    own = {"Host": host, "Connection": "close", "Content-Type": "application/json", "Content-Length": str(len(body))}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in (own | (headers or {})).items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
