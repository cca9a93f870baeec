"""HTTP as all kinds of clients speak it: pages, pools, HTTP/1.0 proxies; compressed bodies, ids, wrong base URLs."""

import gzip
import json
import socket
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import yaml
from backports import zstd

from contract.address import free_ports
from contract.sections import Gateway
from serving.supervisor import Running
from tests.e2e.servers import CODE
from tests.gateway.conftest import CHAT, TEXT, lives, until, user

BODY: dict[str, Any] = {"model": "synthetic", "messages": user("x"), "max_tokens": 3}
FRIEND = "http://friend.example"


def test_a_page_of_another_origin_may_post(http: httpx.Client) -> None:
    asked = {"origin": FRIEND, "access-control-request-method": "POST", "access-control-request-headers": "x-mine"}
    before = http.options(CHAT, headers=asked)
    assert before.status_code == 200
    assert "POST" in before.headers["access-control-allow-methods"]
    assert "x-mine" in before.headers["access-control-allow-headers"]
    for answer in (
        http.post(CHAT, json=BODY, headers={"origin": FRIEND}),
        http.post(CHAT, json={}, headers={"origin": FRIEND}),
    ):
        assert answer.headers["access-control-allow-origin"] == FRIEND
        assert {"x-request-id", "retry-after"} <= set(answer.headers["access-control-expose-headers"].split(", "))
    stranger = http.post(CHAT, json=BODY, headers={"origin": "http://stranger.example"})
    assert "access-control-allow-origin" not in stranger.headers


@pytest.mark.parametrize("kind", ["text/plain", "", "application/x-www-form-urlencoded"])
def test_a_stranger_asks_before_it_posts(http: httpx.Client, kind: str) -> None:
    """What a browser sends of any page without asking is taken of none but our own and its friends'."""

    def post(**headers: str) -> int:
        given = headers | ({"content-type": kind} if kind else {})
        return http.post(CHAT, content=json.dumps(BODY).encode(), headers=given).status_code

    assert post(origin="http://stranger.example") == post(origin="null") == 415
    assert post() == post(origin=FRIEND) == post(origin=str(http.base_url).rstrip("/")) == 200


def test_an_id_is_taken_over(http: httpx.Client) -> None:
    assert http.post(CHAT, json=BODY, headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    for unfit in ("", "two words", "é", "x" * 129):
        given = http.get("/v1/models", headers={b"x-request-id": unfit.encode()}).headers["x-request-id"]
        assert given != unfit and len(given) == 32


@pytest.mark.parametrize("path", [f"{CHAT}/", f"/{CHAT}", "/v1//chat///completions/"])
def test_slashes_too_many_are_nothing(http: httpx.Client, path: str) -> None:
    answer = http.request("POST", f"{str(http.base_url).rstrip('/')}{path}", json=BODY)
    assert (answer.status_code, answer.history) == (200, [])


@pytest.mark.parametrize(
    ("method", "path", "meant"),
    [
        ("POST", "/chat/completions", CHAT),
        ("POST", "/v1/v1/chat/completions", CHAT),
        ("GET", "/models", "/v1/models"),
    ],
)
def test_a_base_url_that_is_wrong_is_told(http: httpx.Client, method: str, path: str, meant: str) -> None:
    error = http.request(method, path).json()["error"]
    assert error["code"] == "unknown_url"
    assert f"Did you mean {meant}?" in error["message"]


def test_the_ensemble_is_a_model(http: httpx.Client) -> None:
    assert http.post(CHAT, json=BODY | {"model": "ensemble"}).status_code == 200
    assert http.get("/v1/models/ensemble").json()["id"] == "synthetic"


def deflated(body: bytes) -> bytes:
    """Without zlib's head, as some clients have it."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "GZIP": lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:]),
    "deflate": zlib.compress,
    "Deflate": deflated,
    "zstd": zstd.compress,
    "identity": bytes,
}


@pytest.mark.parametrize("encoding", PACKED)
def test_a_compressed_body(http: httpx.Client, encoding: str) -> None:
    packed = PACKED[encoding](json.dumps(BODY).encode())
    answer = http.post(CHAT, content=packed, headers={"content-encoding": encoding})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_a_bomb(http: httpx.Client, encoding: str) -> None:
    bomb = PACKED[encoding](json.dumps(BODY | {"user": "x" * 2**26}).encode())
    assert len(bomb) < 2**17
    answer = http.post(CHAT, content=bomb, headers={"content-encoding": encoding})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
@pytest.mark.parametrize("broken", ["other", "cut"])
def test_a_body_that_does_not_unpack(http: httpx.Client, encoding: str, broken: str) -> None:
    body = b"plain" if broken == "other" else PACKED[encoding](json.dumps(BODY).encode())[:-6]
    answer = http.post(CHAT, content=body, headers={"content-encoding": encoding})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_encoding")


def test_an_encoding_that_is_not_taken(http: httpx.Client) -> None:
    answer = http.post(CHAT, content=b"x", headers={"content-encoding": "br"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_encoding")
    assert answer.headers["accept-encoding"] == "gzip, deflate, zstd"


@pytest.mark.parametrize("stream", [False, True])
def test_http_1_0(server: Running, stream: bool) -> None:
    """No chunks, and the end of the connection is the end of the answer."""
    body = json.dumps(BODY | {"stream": stream}).encode()
    with socket.create_connection(("127.0.0.1", server.spec.ports.gateway), timeout=10) as connection:
        connection.sendall(b"POST %b HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body))
        received = b""
        while piece := connection.recv(65536):
            received += piece
    head, _, content = received.partition(b"\r\n\r\n")
    assert head.split()[1] == b"200"
    assert b"transfer-encoding" not in head and b"connection: close" in head
    if not stream:
        assert json.loads(content)["usage"]["completion_tokens"] == 3
        return
    lines = content.decode().split("\n\n")
    assert [line[:6] for line in lines if line] == ["data: "] * (len(lines) - 1)
    assert lines[-2] == "data: [DONE]"


def test_an_own_deadline_is_not_tried_again(http: httpx.Client) -> None:
    answer = http.post(
        TEXT, json={"model": "synthetic", "prompt": "x", "max_tokens": 4000}, headers={"x-request-timeout": "0.2"}
    )
    assert (answer.status_code, answer.headers["x-should-retry"]) == (408, "false")


@pytest.mark.parametrize(
    "much", [{"messages": user("x" * 200_000)}, {"messages": user("x" * 2000)}, {"max_tokens": 4096}]
)
def test_an_overflow_in_the_words_that_clients_know(http: httpx.Client, much: dict[str, Any]) -> None:
    """litellm's matcher looks for these words, LangChain's for the code."""
    error = http.post(CHAT, json=BODY | much).json()["error"]
    assert "This model's maximum context length is 4096 tokens" in error["message"]
    assert error["code"] == "context_length_exceeded"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, int]]:
    """A gateway whose server is not there, and keeps idle connections for a second; the server's port."""
    http, grpc, metrics, gateway = free_ports(4)
    spec = {
        "name": "synthetic",
        "engine": {"runtime": "synthetic"},
        "ports": {"http": http, "grpc": grpc, "metrics": metrics, "gateway": gateway},
        "gateway": {"keep_alive_s": 1},
    }
    config = tmp_path_factory.mktemp("alone") / "synthetic.yaml"
    config.write_text(yaml.safe_dump(spec))
    process = subprocess.Popen((sys.executable, "-m", "gateway", str(config)), cwd=CODE)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{gateway}", timeout=30, trust_env=False) as client:
            until(lambda: lives(client), 30)
            yield client, grpc
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("path", ["/health/ready", CHAT])
def test_no_address_of_the_inside(alone: tuple[httpx.Client, int], path: str) -> None:
    client, port = alone
    answer = client.post(path, json=BODY) if path == CHAT else client.get(path)
    assert answer.status_code == 503
    assert "the server is not there" in answer.text
    assert str(port) not in answer.text and "127.0.0.1" not in answer.text


def test_an_idle_connection_is_kept_as_long_as_the_spec_says(alone: tuple[httpx.Client, int]) -> None:
    assert Gateway().keep_alive_s == 75
    client, _ = alone
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=20) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while piece := connection.recv(65536):  # until the gateway hangs up
            received += piece
    assert received.endswith(b'{"status":"ok"}')
