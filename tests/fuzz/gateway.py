"""Requests for the gateway: bodies of its published schemas and of good requests, in HTTP that is sound or is not."""

import gzip
import zlib
from copy import deepcopy
from functools import cache
from typing import Any

from hypothesis import strategies as st

from gateway.openapi import BODIES
from tests.fuzz.case import Case, Door
from tests.fuzz.schema import of_schema
from tests.fuzz.values import bitten, dumped, mutated

MODEL = "fuzzed"
_CHAT = [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "tide"}]}]
_TOOL = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
_CALLED = [
    {"role": "user", "content": "x"},
    {
        "role": "assistant",
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "1", "content": "4"},
]
GOOD: dict[str, list[dict[str, Any]]] = {
    "/v1/chat/completions": [
        {"model": MODEL, "messages": _CHAT, "max_tokens": 4, "temperature": 0.5, "stop": ["x"], "logprobs": True},
        {"messages": _CALLED, "tools": [{"type": "function", "function": {"name": "f", "parameters": _TOOL}}]},
        {"messages": _CHAT, "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": _TOOL}}},
    ],
    "/v1/completions": [
        {"model": MODEL, "prompt": ["tide", "boat"], "max_tokens": 4, "n": 2, "echo": True, "logprobs": 2},
        {"model": MODEL, "prompt": [1, 2, 3], "max_tokens": 4, "stream_options": {"include_usage": True}},
        {"model": MODEL, "prompt": "tide", "guided_regex": "a+", "max_tokens": 4},
    ],
    "/v1/responses": [
        {"model": MODEL, "input": "tide", "max_output_tokens": 16},
        {"model": MODEL, "input": _CHAT, "tools": [{"type": "function", "name": "f", "parameters": _TOOL}]},
    ],
    "/v1/messages": [
        {"model": MODEL, "messages": [{"role": "user", "content": "tide"}], "max_tokens": 4, "system": "s"},
        {"model": MODEL, "messages": _CHAT[1:], "max_tokens": 4, "tools": [{"name": "f", "input_schema": _TOOL}]},
    ],
    "/v1/messages/count_tokens": [{"model": MODEL, "messages": [{"role": "user", "content": "tide"}]}],
    "/v1/responses/input_tokens": [{"model": MODEL, "input": "tide"}],
    "/tokenize": [{"model": MODEL, "prompt": "tide"}, {"messages": _CHAT}],
    "/detokenize": [{"model": MODEL, "tokens": [1, 2, 3]}],
}
_SMALL = ("max_tokens", "max_output_tokens", "max_completion_tokens")
_HEADERS = [
    *(b"X-Request-Timeout: 0.001", b"X-Request-Timeout: nan", b"X-Request-Timeout: 9e99", b"anthropic-version: x"),
    *(
        b"Origin: http://evil.example",
        b"Content-Type: text/plain",
        b"Content-Type: \xff",
        b"Authorization: Bearer \xff",
    ),
    *(b"X-Request-Id: a b\tc", b"X-Request-Id: " + b"i" * 5_000, b"Expect: 100-continue", b"Accept-Encoding: br"),
    *(
        b"Transfer-Encoding: chunked",
        b"Content-Length: 3",
        b"Upgrade: h2c",
        b"Connection: upgrade",
        b": empty",
        b"no colon",
    ),
    *(
        b"Content-Encoding: gzip",
        b"Content-Encoding: zstd",
        b"Content-Encoding: br, gzip",
        b"Range: bytes=0-1",
        b"X: " + b"y" * 70_000,
    ),
]
_LINES = [b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"PUT", b"post", b"CONNECT", b"TRACE"]
_PATHS = [
    b"/v1/models",
    b"/v1/models/%00",
    b"/metrics",
    b"/health/ready",
    b"/openapi.json",
    b"/v1/../v1/models",
    b"*",
    b"//",
    b"/v1/chat/completions/",
]


@st.composite
def bodies(draw: st.DrawFn, path: str) -> bytes:
    """A body for a path."""
    model = BODIES[path][0]
    schema = model.model_json_schema()
    fields = sorted(schema["properties"])
    if draw(st.booleans()):
        value = deepcopy(draw(of_schema(schema, schema.get("$defs", {}))))
        if isinstance(value, dict) and draw(st.integers(0, 9)):
            value["model"] = MODEL
    else:
        value = draw(mutated(draw(st.sampled_from(GOOD[path])), fields))
    if isinstance(value, dict):
        for name in _SMALL:
            if isinstance(value.get(name), int) and value[name] > 64:
                value[name] = draw(st.sampled_from([value[name], 4, 4, 4]))
        if draw(st.booleans()):
            value["stream"] = draw(st.sampled_from([True, True, True, False, None, 1]))
    return draw(dumped(value))


@st.composite
def requests(draw: st.DrawFn) -> Case:
    """One request."""
    path = draw(st.sampled_from(sorted(GOOD)))
    body = draw(bodies(path))
    if draw(st.integers(0, 9)) == 0:
        body = draw(bitten(body))
    headers: list[bytes] = [b"Host: x", b"Content-Type: application/json", b"Connection: close"]
    line = b"POST " + path.encode() + b" HTTP/1.1"
    chunked = draw(st.integers(0, 9)) == 0
    match draw(st.integers(0, 11)):
        case 0:
            headers += draw(st.lists(st.sampled_from(_HEADERS), min_size=1, max_size=3))
        case 1:
            line = draw(st.sampled_from(_LINES)) + b" " + draw(st.sampled_from([path.encode(), *_PATHS])) + b" HTTP/1.1"
        case 2:
            line = line.replace(b"1.1", draw(st.sampled_from([b"1.0", b"2.0", b"0.9", b"1.1.1", b""])))
        case 3:
            body, name = draw(st.sampled_from(packings(body)))
            headers.append(b"Content-Encoding: " + name)
        case _:
            pass
    if chunked:
        return Case(Door.GATEWAY, (draw(chunks(line, headers, body)),))
    length = draw(st.sampled_from([len(body)] * 12 + [len(body) + 1, max(0, len(body) - 1), -1, 2**63]))
    head = b"\r\n".join([line, *headers, b"Content-Length: %d" % length]) + b"\r\n\r\n"
    return Case(Door.GATEWAY, (head + body,))


def packings(body: bytes) -> list[tuple[bytes, bytes]]:
    """A body packed rightly and wrongly, and what its header says."""
    packed = gzip.compress(body)
    return [
        *((packed, b"gzip"), (packed[:-4], b"gzip"), (packed * 2, b"gzip"), (zlib.compress(body), b"deflate")),
        *(
            (_bomb(), b"gzip"),
            (body, b"gzip"),
            (body, b"zstd"),
            (gzip.compress(packed), b"gzip, gzip"),
            (body, b"identity"),
        ),
    ]


@cache
def _bomb() -> bytes:
    return gzip.compress(bytes(50 * 2**20))


@st.composite
def chunks(draw: st.DrawFn, line: bytes, headers: list[bytes], body: bytes) -> bytes:
    """A request whose body comes in chunks, sound or not."""
    size = draw(st.sampled_from([1, 7, 1000, 2**20]))
    cut = [body[at : at + size] for at in range(0, min(len(body), 4_000 * size), size)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in cut)
    end = draw(
        st.sampled_from(
            [b"0\r\n\r\n"] * 4
            + [b"", b"0\r\nx: y\r\n\r\n", b"0\r\n" + b"x: y\r\n" * 20_000, b"zz\r\n", b"-1\r\n", b"f" * 16 + b"\r\n"]
        )
    )
    return b"\r\n".join([line, *headers, b"Transfer-Encoding: chunked"]) + b"\r\n\r\n" + framed + end
