"""Deployments of the tests: a name, a folder and free ports of their own."""

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from build.repository import write_repository
from contract.spec import Deployment, load_spec
from contract.stage import run_dir
from contract.state import State, read_state
from tests.serving.stream import until

CODE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Site:
    """Where a deployment lives."""

    spec: Deployment
    config: Path
    root: Path

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return run_dir(self.root, self.spec.name)

    def serving(self, *words: str) -> subprocess.CompletedProcess[str]:
        """``python -m serving WORDS CONFIG`` to its end."""
        return subprocess.run(self.command(*words), cwd=CODE, capture_output=True, text=True, timeout=90)

    def command(self, *words: str) -> list[str]:
        """The command line of :meth:`serving`."""
        return [sys.executable, "-m", "serving", *words, str(self.config), "--root", str(self.root)]


def state_when(site: Site, holds: Callable[[State], bool], deadline_s: float = 20) -> State:
    """The deployment's state once ``holds`` is true of it."""
    for _ in until(deadline_s, "the state"):
        state = read_state(site.folder)
        if state and holds(state):
            return state
    raise AssertionError


def free_ports() -> dict[str, int]:
    """Four ports that nobody uses, below those that the kernel hands to clients."""
    ports: dict[str, int] = {}
    while len(ports) < 4:
        port = random.randint(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in ports.values():
            ports[("http", "grpc", "metrics", "gateway")[len(ports)]] = port
    return ports


def make_site(folder: Path, name: str, **sections: object) -> Site:
    """A deployment of the synthetic engine, its model repository written."""
    config = folder / f"{name}.yaml"
    data = {
        "name": name,
        "engine": {"runtime": "synthetic"},
        "limits": {"max_seq_len": 300_000, "max_input_len": 1000},
        "ports": free_ports(),
        "gateway": {"enabled": False},
    }
    config.write_text(yaml.safe_dump(data | sections))
    spec = load_spec(config)
    if spec.source is None:
        write_repository(folder, spec, None)
    return Site(spec, config, folder)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path, "site")


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a command whose output the test reads; what is left of it is killed in the end."""
    begun: list[subprocess.Popen[str]] = []

    def _start(command: list[str]) -> subprocess.Popen[str]:
        begun.append(
            subprocess.Popen(
                command,
                cwd=CODE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )
        return begun[-1]

    yield _start
    for process in begun:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=10)
