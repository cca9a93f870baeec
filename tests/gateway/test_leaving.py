"""Clients that leave, wherever their request stands, take it with them."""

import socket
import threading
import time

import httpx
import pytest

from serving.supervisor import Running
from tests.gateway.conftest import CHAT, TEXT, active, gauge, origin, until, user

LONG = {"model": "synthetic", "prompt": "x", "max_tokens": 4000}


def settled(server: Running, http: httpx.Client) -> bool:
    return active(server) == 0 == gauge(http, "conch_gateway_requests_active")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("n", [1, 3])
def test_leaving_frees_the_engine(server: Running, http: httpx.Client, stream: bool, n: int) -> None:
    request = httpx.Request("POST", f"{origin(server)}{TEXT}", json=LONG | {"stream": stream, "n": n})
    head = f"POST {TEXT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(request.content)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.spec.ports.gateway)) as connection:
        connection.sendall(head.encode() + request.content)
        until(lambda: active(server) == n)
    until(lambda: settled(server, http), 3)


def test_a_slow_body_is_no_reason_to_hang(server: Running, http: httpx.Client) -> None:
    with socket.create_connection(("127.0.0.1", server.spec.ports.gateway)) as connection:
        connection.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{{".encode())
        time.sleep(0.2)
    until(lambda: settled(server, http))
    body = {"model": "synthetic", "messages": user("x"), "max_tokens": 1}
    assert http.post(CHAT, json=body).status_code == 200


def test_many_who_leave_at_once(server: Running, http: httpx.Client) -> None:
    def ask() -> None:
        with httpx.stream("POST", f"{origin(server)}{TEXT}", json=LONG | {"stream": True}) as answer:
            next(answer.iter_bytes())

    threads = [threading.Thread(target=ask) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    until(lambda: settled(server, http), 5)
