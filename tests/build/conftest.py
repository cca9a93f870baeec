"""Deployments to build: a config and a root of their own, from a tiny checkpoint."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from build.chain import build
from contract.spec import load_spec
from tests import tiny

CODE = Path(__file__).resolve().parents[2]
LOOSE = {"min_top1_agreement": 0, "max_perplexity_ratio": 1000}


@dataclass(frozen=True)
class Site:
    """A config and the root that it is built in."""

    config: Path
    root: Path

    @property
    def home(self) -> Path:
        """The folder of its engines."""
        return self.root / "engines" / self.config.stem

    def change(self, **sections: Any) -> None:
        """Other sections of the config."""
        self.config.write_text(yaml.safe_dump(yaml.safe_load(self.config.read_text()) | sections))

    def build(self) -> Path:
        """The engine, in this process."""
        return build(self.config, load_spec(self.config), self.root)

    def command(self) -> list[str]:
        """``python -m build`` for this deployment."""
        return [sys.executable, "-m", "build", str(self.config), "--root", str(self.root)]

    def run(self, file_limit_kib: int | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """``python -m build`` to its end.

        Args:
            file_limit_kib: no file can grow beyond it, as on a full disk.
            environment: variables beside this process's own.
        """
        limit = f"ulimit -f {file_limit_kib}; " if file_limit_kib else ""
        return subprocess.run(
            ["bash", "-c", f'{limit}exec "$@"', "bash", *self.command()],
            cwd=CODE,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=180,
        )

    def engines(self) -> list[str]:
        """The names of what is published."""
        return sorted(path.name for path in self.home.glob("[!.]*"))

    def steps(self) -> list[str]:
        """What finished steps are kept, and anything else in their folder."""
        return sorted(path.name.split("-")[0] for path in (self.home / ".work").iterdir() if path.name != ".lock")


def make_site(folder: Path, source: Path, name: str = "tiny", **sections: Any) -> Site:
    """A deployment of a checkpoint on disk."""
    config = folder / f"{name}.yaml"
    limits = {"max_seq_len": tiny.CONTEXT, "max_input_len": 256}
    data = {"name": name, "source": {"kind": "path", "path": str(source)}, "limits": limits}
    config.write_text(yaml.safe_dump(data | sections))
    return Site(config, folder)


def refused(run: subprocess.CompletedProcess[str]) -> str:
    """What a build said that was refused cleanly: its last line."""
    assert run.returncode == 1, run.stderr
    assert "Traceback" not in run.stderr
    said = run.stderr.splitlines()[-1]
    assert said.startswith("✗ ")
    return said.removeprefix("✗ ")


def read_terminal(terminal: int) -> bytes:
    """What a program has said; nothing once it has ended."""
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # nobody holds the other end
        return b""


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint to read; a test that spoils one writes its own."""
    return tiny.write_checkpoint(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def site(tmp_path: Path, llama: Path) -> Site:
    """Nothing is built yet."""
    return make_site(tmp_path, llama)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, llama: Path) -> Site:
    """Built in fp32; tests may build it further, but must leave what is there."""
    made = make_site(tmp_path_factory.mktemp("built"), llama)
    made.build()
    return made


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a small disk; test_a_file_limit walks the same path")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub's repository to read; a test that spoils one writes its own."""
    from tests.build.fetching import write_repository

    return write_repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture(params=["huggingface", "modelscope"])
def client(
    request: pytest.FixtureRequest, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """One of each hub; typed in the tests, so that only those import the hubs' libraries."""
    from tests.build.fetching import Client

    made = Client(request.param, repository, tmp_path / "cache", monkeypatch)
    yield made
    made.forget()
