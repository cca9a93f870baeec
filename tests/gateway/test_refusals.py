"""Every refusal but those of whole fields (test_fields.py): its status, its code, and the field that it names."""

import json
import socket
from typing import Any

import httpx
import pytest

from serving.supervisor import Running
from tests.gateway.conftest import CHAT, RESPONSES, TEXT, active, until, user

MODEL = "synthetic"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"model": MODEL, "messages": user("x"), "max_tokens": 2},
    TEXT: {"model": MODEL, "prompt": "x", "max_tokens": 2},
    RESPONSES: {"model": MODEL, "input": "x", "max_output_tokens": 2},
}
TOOL = {"type": "function", "function": {"name": "f"}}
PICTURE = {"type": "image_url", "image_url": {"url": "http://x"}}

REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    (CHAT, {"temperature": 3}, "temperature", "invalid_value"),
    (CHAT, {"temperature": "1"}, "temperature", "invalid_value"),
    (CHAT, {"temprature": 1}, "temprature", "unknown_parameter"),
    (CHAT, {"n": 0}, "n", "invalid_value"),
    (CHAT, {"n": 100}, "n", "invalid_value"),
    (CHAT, {"logit_bias": {"1": 200}}, "logit_bias", "invalid_value"),
    (CHAT, {"logit_bias": {"1": 2}}, "logit_bias", "unsupported_parameter"),
    (CHAT, {"logit_bias": {"one": 2}}, "logit_bias", "invalid_value"),
    (CHAT, {"logit_bias": {"99999": 2}}, "logit_bias", "invalid_value"),
    (CHAT, {"logprobs": True}, "logprobs", "unsupported_parameter"),
    (CHAT, {"top_logprobs": 2}, "top_logprobs", "invalid_value"),
    (CHAT, {"max_tokens": 100_000}, "max_tokens", "context_length_exceeded"),
    (CHAT, {"max_completion_tokens": 3}, "max_tokens", "invalid_value"),
    (CHAT, {"messages": []}, "messages", "invalid_value"),
    (CHAT, {"messages": [{"role": "user"}]}, "messages[0]", "invalid_value"),
    (CHAT, {"messages": [{"role": "tool", "content": "x"}]}, "messages[0]", "invalid_value"),
    (CHAT, {"messages": user("\ud800")}, "messages[0].content", "invalid_value"),
    (CHAT, {"messages": [{"role": "user", "content": [PICTURE]}]}, "image_url", "unsupported_parameter"),
    (CHAT, {"messages": user("x" * 200_000)}, "messages", "context_length_exceeded"),
    (CHAT, {"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
    (CHAT, {"tools": [TOOL], "tool_choice": "required"}, "tool_choice", "unsupported_parameter"),
    (CHAT, {"tool_choice": "required"}, "tool_choice", "invalid_value"),
    (
        CHAT,
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        "tool_choice",
        "invalid_value",
    ),
    (CHAT, {"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
    (CHAT, {"response_format": {"type": "json_schema"}}, "response_format", "invalid_value"),
    (CHAT, {"guided_regex": "a", "guided_json": {}}, "guided_regex", "invalid_value"),
    (CHAT, {"reasoning_effort": 5}, "reasoning_effort", "invalid_value"),
    (TEXT, {"prompt": ""}, "prompt", "invalid_value"),
    (TEXT, {"prompt": []}, "prompt", "invalid_value"),
    (TEXT, {"prompt": [70000]}, "prompt", "invalid_value"),
    (TEXT, {"max_tokens": 0}, "max_tokens", "invalid_value"),
    (TEXT, {"max_tokens": -1, "echo": True}, "max_tokens", "invalid_value"),
    (TEXT, {"max_tokens": 0, "echo": True, "min_tokens": 1}, "min_tokens", "invalid_value"),
    (TEXT, {"echo": True, "prompt": [70000]}, "prompt", "invalid_value"),
    (TEXT, {"echo": True, "logprobs": 1}, "logprobs", "unsupported_parameter"),  # of more than one token
    (TEXT, {"min_tokens": 5}, "min_tokens", "invalid_value"),
    (RESPONSES, {"tools": [{"type": "file_search"}]}, "tools[0]", "invalid_value"),
    (RESPONSES, {"max_output_tokens": 100_000}, "max_output_tokens", "context_length_exceeded"),
    (RESPONSES, {"text": {"format": {"type": "json_object"}}}, "text.format", "unsupported_parameter"),
]


@pytest.mark.parametrize(("path", "wrong", "param", "code"), REFUSED, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_cannot_be_honoured(
    http: httpx.Client, path: str, wrong: dict[str, Any], param: str, code: str, stream: bool
) -> None:
    body = BODIES[path] | ({"stream": True} if stream else {}) | wrong
    answer = http.post(path, content=json.dumps(body).encode())  # httpx itself would refuse half a surrogate pair
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, code), error
    assert set(error) == {"message", "type", "param", "code"}
    assert param in error["param"]
    assert param in error["message"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b'{"model": NaN}', b'{"a":' * 100_000])
def test_what_is_no_json_object(http: httpx.Client, content: bytes) -> None:
    answer = http.post(CHAT, content=content)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


def test_nulls_are_not_given(http: httpx.Client) -> None:
    body = BODIES[CHAT] | dict.fromkeys(("temperature", "tools", "audio", "functions", "stop", "whatever"))
    assert http.post(CHAT, json=body).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "unknown_url"),
        ("GET", "/v1/models/nobody", 404, "model_not_found"),
        ("POST", "/v1/embeddings", 404, "model_not_found"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
    ],
)
def test_where_nothing_is(http: httpx.Client, method: str, path: str, status: int, code: str) -> None:
    answer = http.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_model_that_is_not_served(http: httpx.Client) -> None:
    answer = http.post(CHAT, json=BODIES[CHAT] | {"model": "gpt"})
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "message": "The model 'gpt' does not exist; there is synthetic",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large(http: httpx.Client, chunked: bool) -> None:
    def pieces() -> Any:
        for _ in range(80):
            yield b"x" * 65536

    answer = http.post(CHAT, content=pieces() if chunked else b"".join(pieces()))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("headers", [{"x": "y" * 70_000}, {f"x-{number}": "y" for number in range(120)}])
def test_headers_that_are_too_large(http: httpx.Client, headers: dict[str, str]) -> None:
    answer = http.get("/v1/models", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (431, "headers_too_large")


def test_a_header_without_end(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.spec.ports.gateway), timeout=10) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nx: ")
        sent = 0
        try:
            while sent < 2**22:
                sent += connection.send(b"y" * 65536)
        except OSError:
            pass
        assert sent < 2**22 or connection.recv(100).startswith(b"HTTP/1.1 431 ")


def test_what_is_no_http(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.spec.ports.gateway), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert b'"code":"invalid_http"' in connection.recv(10_000)


@pytest.mark.parametrize("given", ["0", "-1", "nan", "soon", "1e9"])
def test_a_deadline_that_is_none(http: httpx.Client, given: str) -> None:
    answer = http.post(CHAT, json=BODIES[CHAT], headers={"x-request-timeout": given})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "X-Request-Timeout")


@pytest.mark.parametrize("stream", [False, True])
def test_a_deadline_reaches_the_engine(http: httpx.Client, server: Running, stream: bool) -> None:
    body = BODIES[TEXT] | {"max_tokens": 4000, "stream": stream}
    answer = http.post(TEXT, json=body, headers={"x-request-timeout": "0.4"})
    assert answer.status_code == (200 if stream else 408)
    assert '"code":"deadline_exceeded"' in answer.text
    assert "[DONE]" not in answer.text
    until(lambda: active(server) == 0, 2)
