"""The real programs that read what is rendered, and where they are."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.cases import CODE

COMPOSE = Path(sys.executable).with_name("docker-compose")
PROMTOOL = CODE / ".tools/usr/bin/promtool"
PROMETHEUS = PROMTOOL.with_name("prometheus")

needs_prometheus = pytest.mark.skipif(not PROMTOOL.exists(), reason="no promtool: make test gets it where apt-get can")
needs_docker = pytest.mark.skipif(not shutil.which("docker"), reason="no docker program here")


def write(folder: Path, files: dict[str, str]) -> Path:
    """The rendered files in a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def run(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program's end and what it said."""
    env = {**os.environ, **environment}
    return subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=60, check=False, env=env)
