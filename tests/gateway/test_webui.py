"""make webui says what is missing before anything starts. tests/webui uses the whole of it, in a browser."""

import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.address import free_ports
from contract.spec import Deployment, write_spec
from gateway.webui import environment
from serving.supervisor import Running
from tests.e2e.servers import CODE, synthetic


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway that asks for a key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONCH_API_KEYS", "ann:sk-good")
        with synthetic(tmp_path_factory.mktemp("webui"), gateway={}) as running:
            yield running


def refusal(root: Path, spec: Deployment, *, key: str = "", port: int = 8080) -> str:
    """What it ends with."""
    config = root / "config.yaml"
    write_spec(config, spec)
    run = subprocess.run(
        [sys.executable, "-m", "gateway.webui", str(config), "--root", str(root), "--port", str(port)],
        cwd=CODE,
        env={**os.environ, "CONCH_API_KEY": key},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert run.returncode == 1
    assert not (root / ".conch").exists()
    return run.stderr


def on_port(spec: Deployment, port: int) -> Deployment:
    return spec.model_copy(update={"ports": spec.ports.model_copy(update={"gateway": port})})


def test_no_gateway(guarded: Running, tmp_path: Path) -> None:
    said = refusal(tmp_path, on_port(guarded.spec, free_ports(1)[0]))
    assert "no gateway answers at 127.0.0.1:" in said
    assert "make up CONFIG=" in said


def test_no_key(guarded: Running, tmp_path: Path) -> None:
    assert "asks for a key. Set CONCH_API_KEY" in refusal(tmp_path, guarded.spec)


def test_a_wrong_key(guarded: Running, tmp_path: Path) -> None:
    said = refusal(tmp_path, guarded.spec, key="sk-wrong")
    assert "does not know the key in CONCH_API_KEY" in said
    assert "sk-wrong" not in said


def test_another_deployment(guarded: Running, tmp_path: Path) -> None:
    other = guarded.spec.model_copy(update={"name": "other"})
    assert "serves synthetic, not other" in refusal(tmp_path, other, key="sk-good")


def test_not_a_gateway(guarded: Running, tmp_path: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        said = refusal(tmp_path, on_port(guarded.spec, web.server_port))
        web.shutdown()
    assert "is no gateway (status 501)" in said


def test_not_installed(guarded: Running, tmp_path: Path) -> None:
    assert "make webui installs it" in refusal(tmp_path, guarded.spec, key="sk-good")


def test_a_port_that_is_taken(guarded: Running, tmp_path: Path) -> None:
    program = tmp_path / ".venv-webui/bin/open-webui"
    program.parent.mkdir(parents=True)
    program.touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal(tmp_path, guarded.spec, key="sk-good", port=port)
    assert f"port {port} cannot be had: Address already in use" in said


def test_nothing_else_of_our_environment_reaches_it(guarded: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "OPENAI_API_BASE_URLS", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        monkeypatch.setenv(name, "http://elsewhere.example")
    given = environment(guarded.spec, "sk-good", Path("/data"), 8080)
    assert given["OPENAI_API_BASE_URL"] == f"http://127.0.0.1:{guarded.spec.ports.gateway}/v1"
    assert "elsewhere" not in str(given)
