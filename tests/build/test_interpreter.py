"""Which Python make's environments are made of, over folders of small programs that answer as interpreters do."""

import sys
from pathlib import Path

import pytest

from build.interpreter import NoPython, choose


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PATH and pyenv are empty folders, and whoever runs this is none of the wanted."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    return tmp_path


def python(path: Path, version: str) -> str:
    """An interpreter of a version: the question's answer, in a shell."""
    return program(path, f'echo "{path} {version}"')


def program(path: Path, does: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o755)
    return str(path)


def uv(system: Path, install: str, find: str) -> str:
    return program(system / "uv", f'case "$2" in install) {install};; find) {find};; esac')


def test_the_one_that_is_wanted(system: Path) -> None:
    python(system / "bin" / "python3.12", "3.12")
    assert choose(python(system / "mine", "3.11"), "uv") == str(system / "mine")


def test_this_very_one() -> None:
    assert Path(choose(sys.executable, "uv")).samefile(sys.executable)


def test_a_newer_python3_beside_others(system: Path) -> None:
    """Debian 13: 3.12 comes first, PATH before pyenv, and pyenv's stand-in for another is no Python."""
    python(system / "bin" / "python3", "3.13")
    old = python(system / "pyenv" / "versions" / "3.11.7" / "bin" / "python", "3.11")
    assert choose("python3", "uv") == old
    inner = python(system / "pyenv" / "versions" / "3.12.1" / "bin" / "python", "3.12")
    program(system / "bin" / "python3.12", "echo command not found >&2; exit 127")
    assert choose("python3", "uv") == inner
    assert choose("python3.14", "uv") == inner
    on_path = python(system / "bin" / "python3.12", "3.12")
    assert choose("python3", "uv") == on_path


def test_one_that_uv_brings(system: Path) -> None:
    python(system / "bin" / "python3", "3.14")
    assert choose("python3", uv(system, "exit 0", "echo /uv/python3.12")) == "/uv/python3.12"


def test_none(system: Path) -> None:
    python(system / "bin" / "python3", "3.13")
    failing = uv(system, "echo 'error: Request failed after 3 retries' >&2; exit 2", "exit 2")
    with pytest.raises(NoPython) as refusal:
        choose("python3", failing)
    assert str(refusal.value).startswith("python3 is 3.13, and Conch needs Python 3.12 or 3.11: none is on PATH or in ")
    assert "uv could not fetch one (error: Request failed after 3 retries). Install one (python3.12" in str(
        refusal.value
    )
