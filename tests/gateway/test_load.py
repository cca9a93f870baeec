"""Over the limits, in the queue, and with readers that do not read."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import psutil
import pytest

from serving.supervisor import Running
from tests.e2e.servers import synthetic
from tests.gateway.conftest import TEXT, client, door_pid, gauge, streaming, until

LONG: dict[str, Any] = {"model": "synthetic", "prompt": "x", "max_tokens": 3000, "stream": True}
SHORT: dict[str, Any] = {"model": "synthetic", "prompt": "x", "max_tokens": 10}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two requests at once, two more may wait for up to three seconds."""
    door: dict[str, object] = {"max_requests": 2, "max_queue_size": 2, "max_queue_s": 3}
    with synthetic(tmp_path_factory.mktemp("small"), step_ms=5, gateway=door) as running:
        yield running


@pytest.fixture
def http(small: Running) -> Iterator[httpx.Client]:
    with client(small) as connected:
        yield connected
        until(lambda: gauge(connected, "conch_gateway_requests_active") == 0)


@contextmanager
def full(http: httpx.Client) -> Iterator[None]:
    """As many streams as there is room for."""
    with streaming(http, LONG), streaming(http, LONG):
        yield


def test_who_waits_starts_when_there_is_room(http: httpx.Client) -> None:
    with ThreadPoolExecutor(2) as pool:
        with full(http):
            waiting = [pool.submit(http.post, TEXT, json=SHORT) for _ in range(2)]
            until(lambda: gauge(http, "conch_gateway_requests_waiting") == 2)
            refused = http.post(TEXT, json=SHORT)
            assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")
            assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert [each.result().status_code for each in waiting] == [200, 200]


def test_the_queue_has_an_end(http: httpx.Client) -> None:
    with full(http):
        assert http.post(TEXT, json=SHORT).status_code == 429
        late = http.post(TEXT, json=SHORT, headers={"x-request-timeout": "0.3"})
        assert late.status_code in (408, 429)


def test_who_leaves_the_queue_is_forgotten(http: httpx.Client) -> None:
    with full(http):
        with pytest.raises(httpx.ReadTimeout):
            http.post(TEXT, json=SHORT, timeout=0.3)
        until(lambda: gauge(http, "conch_gateway_requests_waiting") == 0)


def test_more_answers_than_there_is_room_for(http: httpx.Client) -> None:
    answer = http.post(TEXT, json=SHORT | {"n": 3})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "n")


READERS = 200


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with synthetic(tmp_path_factory.mktemp("wide"), step_ms=10, gateway={}, max_batch_size=256) as running:
        yield running


def test_readers_that_never_read_cost_no_memory_and_no_speed(wide: Running) -> None:
    """200 streams that nobody reads: the gateway's memory stays flat, and another stream is as fast as ever."""
    door = psutil.Process(door_pid(wide))
    body = httpx.Request("POST", "http://x", json=LONG | {"max_tokens": 4000, "prompt": "word " * 8}).content
    head = f"POST {TEXT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    with ExitStack() as stack, client(wide) as http:
        for _ in range(READERS):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # so that it is full at once
            reader.connect(("127.0.0.1", wide.spec.ports.gateway))
            reader.sendall(head + body)
        until(lambda: gauge(http, "conch_gateway_requests_active") == READERS, 30)
        time.sleep(2)
        before = door.memory_info().rss
        answered = threading.Event()

        def ask() -> None:
            while not answered.is_set():
                assert http.post(TEXT, json=SHORT, timeout=20).status_code == 200

        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(ask)
            time.sleep(6)
            answered.set()
            asking.result()
        grown = door.memory_info().rss - before
        assert grown < 48 * 2**20, f"{grown / 2**20:.0f} MiB"
    with client(wide) as http:
        until(lambda: gauge(http, "conch_gateway_requests_active") == 0, 20)
