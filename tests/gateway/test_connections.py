"""No connection costs more than it should, whatever its client sends, or does not send."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import httpx
import psutil
import pytest
import yaml

from contract.address import free_ports
from tests.e2e.servers import CODE
from tests.gateway.conftest import CHAT, until

GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST %b HTTP/1.1\r\nHost: x\r\n" % CHAT.encode()
ASTRAY = b"POST /nowhere HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
ANNOUNCED = b"Content-Length: 1000\r\n\r\n"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, psutil.Process]]:
    """A gateway without a server, impatient in every state: its port and its process."""
    http, grpc, metrics, gateway = free_ports(4)
    spec = {
        "name": "synthetic",
        "engine": {"runtime": "synthetic"},
        "ports": {"http": http, "grpc": grpc, "metrics": metrics, "gateway": gateway},
        "gateway": {"keep_alive_s": 1},
    }
    config = tmp_path_factory.mktemp("alone") / "synthetic.yaml"
    config.write_text(yaml.safe_dump(spec))
    process = subprocess.Popen((sys.executable, "-m", "tests.gateway.impatient", str(config)), cwd=CODE)
    try:
        until(lambda: answers(gateway), 120)
        yield gateway, psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/live").status_code == 200
    except httpx.TransportError:
        return False


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def until_closed(connection: socket.socket) -> bytes:
    """All that comes before the gateway hangs up."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


ENDINGS: list[tuple[bytes, bytes]] = [
    (b"", b""),
    (b"GET / HT", b""),
    (GET, b" 200 "),
    (GET + b"\r\n", b" 200 "),
    (GET + GET[:9], b" 200 "),
    (POST + ANNOUNCED + b"{", b" 408 "),
    (POST + CHUNKED + b"2\r\n{}\r\n0\r\nx: y", b" 408 "),
    (ASTRAY + ANNOUNCED, b" 404 "),
    (ASTRAY + ANNOUNCED + b"{", b" 404 "),
    (ASTRAY + CHUNKED + b"0\r\n", b" 404 "),
    (POST + b"Content-Length: 99999999\r\n\r\n{", b" 413 "),
    (POST + b"Expect: 100-continue\r\n" + ANNOUNCED, b" 408 "),
]


def test_no_state_lasts(alone: tuple[int, psutil.Process]) -> None:
    port, _ = alone
    with ExitStack() as stack:
        connections = [stack.enter_context(connected(port)) for _ in ENDINGS]
        for connection, (sent, _) in zip(connections, ENDINGS, strict=True):
            connection.sendall(sent)
        for connection, (_, told) in zip(connections, ENDINGS, strict=True):
            assert told in until_closed(connection)


@pytest.mark.parametrize("begun", [ASTRAY + ANNOUNCED, POST + CHUNKED, GET], ids=["early", "chunked", "idle"])
def test_bytes_now_and_then_change_nothing(alone: tuple[int, psutil.Process], begun: bytes) -> None:
    port, _ = alone
    drip = b"\r\n" if begun is GET else b"1\r\n \r\n" if begun.endswith(CHUNKED) else b" "
    with connected(port) as connection:
        connection.sendall(begun)
        connection.settimeout(0.2)
        for _ in range(100):
            try:
                if connection.recv(65536) == b"":
                    return
            except TimeoutError:
                pass
            except ConnectionResetError:
                return
            try:
                connection.sendall(drip)
            except OSError:
                return
    raise AssertionError("it was never closed")


@pytest.mark.parametrize("piece", [b"y" * 65536, b"y: z\r\n" * 10_000], ids=["one", "many"])
def test_a_trailer_without_end(alone: tuple[int, psutil.Process], piece: bytes) -> None:
    port, _ = alone
    with connected(port) as connection:
        connection.sendall(POST + CHUNKED + b"2\r\n{}\r\n0\r\n" + (b"x: " if b":" not in piece else b""))
        sent = 0
        try:
            while sent < 2**22:
                sent += connection.send(piece)
        except OSError:
            pass
        assert sent < 2**22 or b" 431 " in until_closed(connection)


def test_bodies_on_their_way_have_a_budget(alone: tuple[int, psutil.Process]) -> None:
    port, process = alone
    before = process.memory_info().rss
    body = POST + b"Content-Length: %d\r\n\r\n" % 2**22 + bytes(2**22 - 1)
    with ExitStack() as stack:
        connections = []
        for _ in range(20):
            connections.append(stack.enter_context(connected(port)))
            with suppress(OSError):  # it gave way already
                connections[-1].sendall(body)
            assert process.memory_info().rss - before < 60 * 2**20
        small = httpx.post(f"http://127.0.0.1:{port}{CHAT}", json={})
        assert small.status_code == 400  # it was read meanwhile
        told = [until_closed(connection) for connection in connections]
    assert any(b" 503 " in each and b"the largest" in each and b"retry-after: 1" in each for each in told)
