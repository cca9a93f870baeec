"""A deployment that is served under load, and versions to be released to it."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from release.history import history
from serving.supervisor import Running
from tests.e2e.servers import CODE, synthetic

NAME = "synthetic"
STREAMS = 6
STEP_MS = 10


@dataclass
class Crowd:
    """Users that stream answers one after the other, and what they saw."""

    url: str
    answers: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    _enough: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Users for the length of a ``with`` block; none of them may have seen a fault."""
        users = [threading.Thread(target=self._use, args=(number,)) for number in range(STREAMS)]
        for user in users:
            user.start()
        try:
            yield
        finally:
            self._enough.set()
            for user in users:
                user.join()
        assert not self.faults
        assert self.answers

    def _use(self, user: int) -> None:
        with httpx.Client(base_url=self.url, timeout=60, trust_env=False) as http:
            number = 0
            while not self._enough.is_set():
                number += 1
                text = f"user {user}, question {number}: " + "the sea is wide " * 4
                body = {"model": NAME, "prompt": text, "max_tokens": 30, "stream": True, "ignore_eos": True}
                try:
                    self._read(http, body)
                except httpx.HTTPError as error:
                    self.faults.append(repr(error))

    def _read(self, http: httpx.Client, body: dict[str, Any]) -> None:
        with http.stream("POST", "/v1/completions", json=body) as answer:
            lines = [line for line in answer.iter_lines() if line]
        if answer.status_code != 200 or lines[-1] != "data: [DONE]":
            self.faults.append(f"{answer.status_code} {lines[-1:]}")
        else:
            self.answers.append(lines[-2])


@dataclass(frozen=True)
class Site:
    """The deployment."""

    server: Running
    root: Path

    @property
    def trial_dir(self) -> Path:
        """The run folder of a version on trial."""
        return self.server.folder / "trial" / ".conch" / NAME

    def version(self, folder: Path, **sections: dict[str, Any]) -> Path:
        """The config of another version."""
        spec = self.server.spec.model_dump(mode="json", exclude_unset=True)
        for section, values in sections.items():
            spec[section] = {**spec.get(section, {}), **values}
        config = folder / "version.yaml"
        config.write_text(yaml.safe_dump(spec))
        return config

    def command(self, *words: str, config: Path) -> list[str]:
        """``python -m release WORDS``."""
        return [sys.executable, "-m", "release", words[0], str(config), "--root", str(self.root), *words[1:]]

    def run(self, *words: str, config: Path) -> subprocess.CompletedProcess[str]:
        """The same to its end."""
        command = self.command(*words, config=config)
        return subprocess.run(command, cwd=CODE, capture_output=True, text=True, timeout=240, check=False)

    def last(self) -> dict[str, Any]:
        """The last line of the history."""
        return history(self.server.folder)[-1]

    def crowd(self) -> Crowd:
        """Users of it."""
        return Crowd(f"http://127.0.0.1:{self.server.spec.ports.gateway}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("site")
    with synthetic(root, step_ms=STEP_MS, gateway={"enabled": True}) as server:
        yield Site(server, root)


def until(holds: Any, seconds: float = 90) -> None:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)
