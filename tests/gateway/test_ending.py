"""How a gateway ends: drained, cut at its deadline, killed and started again."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from contract.address import free_ports
from contract.spec import Deployment, write_spec
from contract.state import Phase
from serving.process import stubs
from serving.supervisor import Running
from tests.e2e.servers import CODE, synthetic
from tests.gateway.conftest import TEXT, active, client, door_pid, gateway, lives, streaming, until

LONG = {"model": "synthetic", "prompt": "x", "stream": True}


def test_what_runs_may_finish(behind: Running, tmp_path: Path) -> None:
    with gateway(behind, tmp_path) as (process, http):
        with streaming(http, LONG | {"max_tokens": 100}) as chunks:
            process.terminate()
            until(lambda: http.get("/health/ready").status_code == 503, 5)
            refused = http.post(TEXT, json=LONG)
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "service_unavailable"
            assert "retry-after" in refused.headers
            assert "".join(chunks).endswith("data: [DONE]\n\n")
        assert process.wait(timeout=5) == 0


def test_what_takes_too_long_is_told_so(behind: Running, tmp_path: Path) -> None:
    with gateway(behind, tmp_path, "--drain-s", "0.5") as (process, http):
        with streaming(http, LONG | {"max_tokens": 4000}) as chunks:
            process.terminate()
            rest = "".join(chunks)
        assert '"code":"service_unavailable"' in rest.split("data: ")[-1]
        assert "[DONE]" not in rest
        assert process.wait(timeout=5) == 0
    until(lambda: active(behind) == 0, 3)


def test_a_second_signal_ends_at_once(behind: Running, tmp_path: Path) -> None:
    with gateway(behind, tmp_path) as (process, http), streaming(http, LONG | {"max_tokens": 4000}):
        process.terminate()
        until(lambda: http.get("/health/ready").status_code == 503, 5)
        process.terminate()
        process.wait(timeout=5)
    until(lambda: active(behind) == 0, 3)


def test_a_death_frees_the_engine(behind: Running, tmp_path: Path) -> None:
    with gateway(behind, tmp_path) as (process, http), streaming(http, LONG):
        process.kill()
    until(lambda: active(behind) == 0, 3)


def test_without_a_server_it_lives_but_is_not_ready(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    http_port, grpc, metrics, port = free_ports(4)
    ports = {"http": http_port, "grpc": grpc, "metrics": metrics, "gateway": port}
    config.write_text(yaml.safe_dump({"name": "synthetic", "engine": {"runtime": "synthetic"}, "ports": ports}))
    process = subprocess.Popen((sys.executable, "-m", "gateway", str(config)), cwd=CODE)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            until(lambda: lives(http), 20)
            assert http.get("/health/ready").status_code == 503
            answer = http.post(TEXT, json=LONG)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "service_unavailable")
    finally:
        process.kill()
        process.wait()


def test_the_supervisor_brings_both_back(tmp_path: Path) -> None:
    with synthetic(tmp_path, gateway={}) as server, client(server) as http:
        first = door_pid(server)
        os.kill(first, signal.SIGKILL)
        until(lambda: lives(http) and door_pid(server) != first, 10)
        assert server.restarts == 0
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: http.get("/health/ready").status_code == 503, 5)
        assert lives(http)
        until(lambda: http.get("/health/ready").status_code == 200, 30)
        assert server.restarts == 1
        os.kill(door_pid(server), signal.SIGSTOP)
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: server.restarts == 2 and server.state.phase is Phase.READY, 30)
        until(lambda: server.state.gateway == "it does not answer", 30)
        until(lambda: lives(http), 30)
        until(lambda: server.state.gateway == "", 10)
        last = door_pid(server)
    assert not psutil.pid_exists(last)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / ".conch" / "synthetic"
    folder.mkdir(parents=True)
    mounted = subprocess.run(("mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", folder), capture_output=True)
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield folder
    subprocess.run(("umount", "--lazy", folder), check=True)


def test_a_full_disk_under_the_log_costs_log_lines_alone(tmp_path: Path, small_disk: Path) -> None:
    with synthetic(tmp_path, gateway={}, step_ms=10) as server, client(server) as http:
        with (small_disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while filler.write(bytes(4096)):
                pass
        first = door_pid(server)
        for _ in range(50):
            assert http.post(TEXT, json=LONG | {"max_tokens": 1, "stream": False}).status_code == 200
        os.kill(first, signal.SIGKILL)
        until(lambda: lives(http) and door_pid(server) != first, 20)
        stage = stubs(server.pid)[0]
        stage.process.kill()
        until(lambda: http.get("/health/ready").status_code == 503, 10)
        until(lambda: http.get("/health/ready").status_code == 200, 30)
        with streaming(http, LONG | {"max_tokens": 200}) as chunks:
            next(chunks)
            os.kill(server.supervisor_pid, signal.SIGTERM)
            until(lambda: http.post(TEXT, json=LONG | {"max_tokens": 1}).status_code == 503, 10)
            assert "".join(chunks).endswith("data: [DONE]\n\n")
        psutil.wait_procs([psutil.Process(server.supervisor_pid)], timeout=30)


def test_make_up_says_why_the_gateway_does_not_start(tmp_path: Path) -> None:
    from contract.errors import ServeError

    with pytest.raises(ServeError, match="without a key"), synthetic(tmp_path, gateway={"host": "0.0.0.0"}):
        pass


def test_two_deployments_behind_one_door(behind: Running, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    spec = Deployment.model_validate({"name": "other", "engine": {"runtime": "synthetic"}})
    write_spec(other, spec)
    with gateway(behind, tmp_path, str(other)) as (_, http):
        assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["synthetic", "other"]
        body = {"prompt": "x", "max_tokens": 1}
        assert http.post(TEXT, json=body | {"model": "synthetic"}).status_code == 200
        assert http.post(TEXT, json=body | {"model": "other"}).status_code == 503
        assert http.get("/health/ready").json()["synthetic"] == "ready"
