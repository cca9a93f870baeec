"""The server of known timings as a process of a test's or a measurement's own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.loadtests.known import Timings, Told

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Running:
    """Where it answers, and what it kept."""

    http: int
    grpc: int
    log: Path

    def host(self, transport: str) -> str:
        """What ``--host`` says."""
        return f"127.0.0.1:{self.grpc}" if transport == "triton-grpc" else f"http://127.0.0.1:{self.http}"

    def told(self) -> dict[str, Told]:
        """Its whole answers by their prompts."""
        answers = (Told(**json.loads(line)) for line in self.log.read_text().splitlines())
        return {answer.prompt: answer for answer in answers}


@contextmanager
def known_server(folder: Path, timings: Timings) -> Iterator[Running]:
    """Start it, and end it."""
    log = folder / "told.jsonl"
    log.touch()
    wanted: dict[str, Any] = vars(timings)
    options = [f"--{name}={value}" for name, value in wanted.items()]
    command = [sys.executable, "-m", "tests.loadtests.known", str(log), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            http, grpc = process.stdout.readline().split()
            yield Running(int(http), int(grpc), log)
        finally:
            process.kill()
