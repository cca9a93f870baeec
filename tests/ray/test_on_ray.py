"""Servers on a real Ray of two nodes, one of which is killed under load: make test-ray."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil
import pytest
import yaml

from contract.address import free_ports
from tests.e2e.servers import CODE
from tests.gateway.conftest import until
from tests.gateway.test_replicas import Stream, up

pytestmark = pytest.mark.long
PYTHON = CODE / ".venv-ray" / "bin" / "python"
HEAD, OTHER = "127.0.0.2", "127.0.0.3"  # Ray takes 127.0.0.1 for the machine's own address


def end(process: "subprocess.Popen[bytes]") -> None:
    """A process and all that it started, as if switched off."""
    for each in (*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)):
        os.kill(each.pid, signal.SIGKILL)
    process.wait(30)


@contextmanager
def node(address: str, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A Ray node at an address of this machine."""
    own = (f"--node-ip-address={address}", "--num-cpus=2", "--object-store-memory=100000000", "--block")
    command = [str(PYTHON.with_name("ray")), "start", *own, "--disable-usage-stats", *words]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        if process.poll() is None:
            end(process)


@contextmanager
def program(*words: str | Path, **environment: str) -> Iterator[None]:
    process = subprocess.Popen([*map(str, words)], cwd=CODE, env={**os.environ, **environment})
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def joined(address: str) -> int:
    """How many nodes the Ray at this address has."""
    count = f"import ray; ray.init({address!r}, log_to_driver=False); print('nodes', len(ray.nodes()))"
    run = subprocess.run([PYTHON, "-c", count], capture_output=True, text=True, timeout=60, check=False)
    return int(run.stdout.split()[-1]) if "nodes" in run.stdout else 0


def places(client: httpx.Client) -> list[str]:
    """Where live servers are."""
    lines = client.get("/metrics").text.splitlines()
    return [
        line.split('replica="')[1].split(":")[0]
        for line in lines
        if line.startswith("conch_gateway_replica_up{") and line.endswith(" 1.0")
    ]


def test_a_node_is_killed_under_load(tmp_path: Path) -> None:
    port, first, gateway = free_ports(3)
    address = f"{HEAD}:{port}"
    config = tmp_path / "config.yaml"
    spec = {
        "name": "synthetic",
        "engine": {"runtime": "synthetic", "step_ms": 10},
        "limits": {"max_seq_len": 4096},
        "ports": {"gateway": gateway},
        "gateway": {"replicas": [f"{host}:{first + 3 * place}" for host in (HEAD, OTHER) for place in range(2)]},
    }
    config.write_text(yaml.safe_dump(spec))
    with (
        TemporaryDirectory(prefix="ray-") as short,  # sockets' paths are limited
        node(HEAD, "--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={short}"),
        node(OTHER, f"--address={address}") as other,
        program(sys.executable, "-m", "gateway", config),
        httpx.Client(base_url=f"http://127.0.0.1:{gateway}", timeout=60, trust_env=False) as client,
        ExitStack() as servers,
    ):
        until(lambda: joined(address) == 2, 120)
        servers.enter_context(program(PYTHON, "-m", "serving.on_ray", config, "--replicas", "2", RAY_ADDRESS=address))
        until(lambda: up(client) == 2, 120)
        assert sorted(places(client)) == [HEAD, OTHER]
        streams = [Stream(client, max_tokens=1000) for _ in range(8)]
        until(lambda: all(stream.text for stream in streams))
        end(other)
        until(lambda: up(client) == 1, 30)
        late = Stream(client, max_tokens=4)
        for stream in (*streams, late):
            stream.join(60)
        assert late.whole
        assert all(stream.whole and not stream.error for stream in streams)
        until(lambda: places(client) == [HEAD, HEAD], 120)  # Ray made it again where a node lives
        again = [Stream(client, max_tokens=4) for _ in range(4)]
        for stream in again:
            stream.join(30)
        assert all(stream.whole for stream in again)


def test_fewer_places_than_servers(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    places = ["127.0.0.2:8001"]
    spec = {"name": "few", "engine": {"runtime": "synthetic"}, "gateway": {"replicas": places}}
    config.write_text(yaml.safe_dump(spec))
    command = [str(PYTHON), "-m", "serving.on_ray", str(config), "--replicas", "2"]
    run = subprocess.run(command, cwd=CODE, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("error: gateway.replicas: 1 places for 2 servers. Name as many on every node")
