"""The gateway before a real server: one for most tests, and what they ask of it."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from contract.address import free_ports
from contract.spec import write_spec
from contract.tracing import Tracing
from serving.supervisor import Running
from tests.e2e.servers import CODE, metric, samples, smollm2, synthetic

CHAT, TEXT, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
MESSAGES, COUNT, INPUT = "/v1/messages", "/v1/messages/count_tokens", "/v1/responses/input_tokens"
TOKENIZE, DETOKENIZE = "/tokenize", "/detokenize"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An echo engine that says its prompt, a token every ms; its calls are read as Hermes writes them."""
    door: dict[str, object] = {"parser": "hermes", "cors_origins": ["http://friend.example"]}
    with synthetic(tmp_path_factory.mktemp("gateway"), step_ms=1, gateway=door) as running:
        yield running


@pytest.fixture(scope="session")
def http(server: Running) -> Iterator[httpx.Client]:
    with client(server) as connected:
        yield connected


@pytest.fixture(scope="session")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server for tests that bring a gateway of their own."""
    with synthetic(tmp_path_factory.mktemp("behind"), step_ms=10, canaries=False) as running:
        yield running


@pytest.fixture(scope="session")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The default deployment, for what needs an engine with a model."""
    with smollm2(tmp_path_factory.mktemp("real"), gateway=True) as running:
        yield running


@pytest.fixture(scope="session")
def real(real_server: Running) -> Iterator[httpx.Client]:
    """Its gateway."""
    with client(real_server) as connected:
        yield connected


@contextmanager
def gateway(
    server: Running, tmp_path: Path, *words: str, tracing: dict[str, Any] | None = None, **door: object
) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """A gateway of its own before a running server; ``door``: of the spec's section. Its log is in ``tmp_path``."""
    ports = server.spec.ports.model_copy(update={"gateway": free_ports(1)[0]})
    section = server.spec.gateway.model_copy(update=door)
    traced = Tracing.model_validate(tracing or {})
    spec = server.spec.model_copy(update={"ports": ports, "gateway": section, "tracing": traced})
    config = tmp_path / "config.yaml"
    write_spec(config, spec)
    with (tmp_path / "gateway.log").open("ab") as log:
        process = subprocess.Popen((sys.executable, "-m", "gateway", str(config), *words), cwd=CODE, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{ports.gateway}", timeout=30) as http:
            until(lambda: lives(http), 60)
            yield process, http
    finally:
        process.kill()
        process.wait()


def lives(http: httpx.Client) -> bool:
    try:
        return http.get("/health/live").status_code == 200
    except httpx.TransportError:
        return False


def client(server: Running, **headers: str) -> httpx.Client:
    """A client of a server's gateway."""
    return httpx.Client(base_url=origin(server), timeout=30, headers=headers)


def origin(server: Running) -> str:
    """Where a server's gateway answers."""
    return f"http://127.0.0.1:{server.spec.ports.gateway}"


@contextmanager
def streaming(http: httpx.Client, body: dict[str, Any]) -> Iterator[Iterator[str]]:
    """A stream whose first piece is there, and its further pieces."""
    with http.stream("POST", TEXT, json=body | {"stream": True}) as answer:
        assert answer.status_code == 200, answer.read()
        pieces = answer.iter_text()
        next(pieces)
        yield pieces


def user(text: str) -> list[dict[str, str]]:
    """A conversation of one message."""
    return [{"role": "user", "content": text}]


def active(server: Running) -> float:
    """Requests in the engine."""
    return sum(metric(server, "conch_requests_active").values())


def gauge(http: httpx.Client, name: str) -> float:
    """A metric of the gateway, summed over its labels."""
    return sum(samples(http.get("/metrics").text, name).values())


def until(holds: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def door_pid(server: Running) -> int:
    """The process of a supervised gateway."""
    children = psutil.Process(server.supervisor_pid).children(recursive=True)
    return next(child.pid for child in children if child.cmdline()[1:3] == ["-m", "gateway"])
