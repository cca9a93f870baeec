"""Requests that no client should send: bytes on a socket, made by breaking a good request in every layer."""

import json
import random
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from tests.conformance.target import Target, user

_PATIENCE_S = 45.0  # longer than a server may wait for a body that never comes
_PATHS = ["chat/completions", "completions", "responses", "messages"]
_JUNK = [b"\x00", b"\xff\xfe", b"\r\n\r\n", b"{", b"]", b'"', b"\\u", b"\\ud800", b"NaN", b"1e999", b"-0", b"\xf0\x9f"]


def malformed(target: Target, count: int, seed: int) -> Iterator[bytes]:
    """This many requests, the same for the same seed."""
    chance = random.Random(seed)
    for number in range(count):
        yield _BREAKS[number % len(_BREAKS)](target, chance)


def answer_to(target: Target, request: bytes) -> int:
    """The status of the answer; 0 where the server closed without one.

    Raises:
        TimeoutError: the server hangs.
    """
    parts = urlsplit(target.base_url)
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=_PATIENCE_S) as connection:
        received = b""
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                received += chunk
        except (ConnectionResetError, BrokenPipeError):
            pass
    line = received.split(b"\r\n", 1)[0].split()
    return int(line[1]) if len(line) > 1 and line[1].isdigit() else 0


def _good(target: Target, chance: random.Random) -> bytes:
    path = chance.choice(_PATHS)
    prompts: dict[str, dict[str, Any]] = {"completions": {"prompt": "Hi"}, "responses": {"input": "Hi"}}
    prompt = prompts.get(path, {"messages": user("Hi")})
    body = prompt | {"model": target.model, "stream": chance.random() < 0.5}
    body["max_output_tokens" if path == "responses" else "max_tokens"] = 16
    return json.dumps(body).encode()


def _request(
    target: Target, body: bytes, *, path: str = "chat/completions", extra: bytes = b"", length: int = -1
) -> bytes:
    parts = urlsplit(target.base_url)
    key = f"Authorization: Bearer {target.api_key}\r\n" if target.api_key else ""
    head = (
        f"POST {parts.path}/{path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{key}Content-Type: application/json\r\n"
        f"Content-Length: {len(body) if length < 0 else length}\r\nConnection: close\r\n"
    )
    return head.encode() + extra + b"\r\n" + body


def _mutated(target: Target, chance: random.Random) -> bytes:
    body = bytearray(_good(target, chance))
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(body))
        match chance.randrange(4):
            case 0:
                del body[at : at + chance.randint(1, 9)]
            case 1:
                body[at:at] = chance.choice(_JUNK)
            case 2:
                body[at] = chance.randrange(256)
            case _:
                body[at:at] = body[at : at + chance.randint(1, 20)]
    return _request(target, bytes(body), path=chance.choice(_PATHS))


def _cut(target: Target, chance: random.Random) -> bytes:
    """The body ends early: the server must not wait for ever."""
    body = _good(target, chance)
    return _request(target, body[: chance.randrange(len(body))], length=len(body))


def _wrong_length(target: Target, chance: random.Random) -> bytes:
    body = _good(target, chance)
    return _request(target, body, length=chance.choice([0, 1, len(body) - 1, 10**6, 10**18]))


def _headers(target: Target, chance: random.Random) -> bytes:
    extra = chance.choice(
        [
            *(
                b"X-A: " + b"a" * 200_000 + b"\r\n",
                b"X: y\r\n" * 5_000,
                b"Content-Length: 5\r\n",
                b": x\r\n",
                b"\x00: \x00\r\n",
            ),
            *(b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n", b"Expect: 100-continue\r\n"),
            *(b"X-Request-Timeout: -1\r\n", b"X-Request-Timeout: nan\r\n", b"Authorization: Bearer \xff\r\n"),
            *(
                b"Content-Type: text/plain\r\n",
                b"Accept: image/png\r\n",
                b"Upgrade: websocket\r\nConnection: upgrade\r\n",
            ),
        ]
    )
    return _request(target, _good(target, chance), extra=extra)


def _line(target: Target, chance: random.Random) -> bytes:
    """The request line itself."""
    whole = _request(target, _good(target, chance))
    first = chance.choice(
        [
            *(b"GET / HTTP/9.9", b"POST", b"", b"\x16\x03\x01\x02\x00", b"POST /v1/../../etc/passwd HTTP/1.1"),
            *(b"POST /v1/%00 HTTP/1.1", b"POST /" + b"a" * 100_000 + b" HTTP/1.1", b"TRACE /v1/models HTTP/1.1"),
            *(b"POST http://other/v1/models HTTP/1.1", b"PRI * HTTP/2.0", b"POST /v1/chat/completions?a=%zz HTTP/1.1"),
        ]
    )
    return first + whole[whole.index(b"\r\n") :]


def _chunked(target: Target, chance: random.Random) -> bytes:
    body = _good(target, chance)
    size = chance.choice([b"%x" % len(body), b"zz", b"-1", b"ffffffffffffffff", b""])
    whole = _request(target, b"", extra=b"Transfer-Encoding: chunked\r\n")
    whole = whole.replace(b"Content-Length: 0\r\n", b"")
    return whole + size + b"\r\n" + body + chance.choice([b"\r\n0\r\n\r\n", b"\r\n", b""])


def _nested(target: Target, chance: random.Random) -> bytes:
    depth = chance.choice([100, 1_000, 100_000])
    value = chance.choice([b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth])
    field = chance.choice(
        [b"messages", b"tools", b"response_format", b"chat_template_kwargs", b"metadata", b"guided_json"]
    )
    return _request(target, _good(target, chance)[:-1] + b', "' + field + b'": ' + value + b"}")


def _schema(target: Target, chance: random.Random) -> bytes:
    """Guides that an engine's compiler may not like."""
    deep = '{"type":"array","items":' * 2_000 + "{}" + "}" * 2_000
    field, value = chance.choice(
        [
            *[
                ("guided_regex", text)
                for text in ("(", "[z-a]", "a{2,1}", "(?=a)b", "(a*)*", "((a{0,99}){0,99}){0,99}", "\\")
            ],
            *[("guided_regex", chr(chance.randrange(0x110000 - 0x800)).encode("utf-8", "replace").decode() * 3)],
            *[
                ("guided_json", json.loads(text))
                for text in ('{"type":"x"}', '{"$ref":"#/x"}', '{"enum":[]}', '{"anyOf":[]}')
            ],
            ("guided_json", json.loads(deep[: 24 * 200] + "{}" + "}" * 200)),
            ("structured_outputs", {"grammar": "root ::= root"}),
            ("structured_outputs", {"grammar": "not a grammar"}),
        ]
    )
    body = json.loads(_good(target, random.Random(0))) | {field: value}
    return _request(target, json.dumps({"messages": user("Hi")} | body).encode())


_BREAKS: list[Callable[[Target, random.Random], bytes]] = [
    *(_mutated, _cut, _wrong_length, _headers, _line, _chunked, _nested, _schema, _mutated, _mutated)
]
