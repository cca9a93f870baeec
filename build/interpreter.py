"""Which Python the environments are made of: 3.12 or 3.11, the last that the wheel's Triton and its numpy 1 run on.

``python3 -m build.interpreter WANTED UV`` prints its path. Standard library only, of any Python 3 that a system brings.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

VERSIONS = ("3.12", "3.11")
_ASK = "import sys; print(sys.executable, '{}.{}'.format(*sys.version_info))"


class NoPython(Exception):
    """None is here, and none could be fetched; its text is fit for a user."""


def choose(wanted: str, uv: str) -> str:
    """The path of what is wanted, else of one on PATH, of one that pyenv has, of one that uv fetches.

    Raises:
        NoPython: with what to install.
    """
    for program in _here(wanted):
        path, version = ask(program)
        if version in VERSIONS:
            return path
    fetched = _run(uv, "python", "install", VERSIONS[0])
    found = _run(uv, "python", "find", "--no-project", VERSIONS[0])
    if found.returncode == 0:
        return found.stdout.strip()
    reason = (fetched.stderr.strip().splitlines() or ["it says nothing"])[-1].strip()
    raise NoPython(
        f"{wanted} is {ask(wanted)[1] or 'not here'}, and Conch needs Python {' or '.join(VERSIONS)}: none is on PATH "
        f"or in pyenv, and uv could not fetch one ({reason}). Install one (python{VERSIONS[0]} of your distribution, "
        f"or pyenv install {VERSIONS[0]}) and run it again; PYTHON=its path names one that is elsewhere"
    )


def ask(program: str) -> tuple[str, str]:
    """An interpreter's own path and version; empty of what does not run, such as pyenv's stand-in for another."""
    try:
        run = _run(program, "-c", _ASK)
    except OSError:
        return "", ""
    path, _, version = run.stdout.strip().rpartition(" ")
    return (path, version) if run.returncode == 0 else ("", "")


def _here(wanted: str) -> Iterator[str]:
    yield wanted
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for version in VERSIONS:
        for folder in os.get_exec_path():
            yield f"{folder}/python{version}"
        yield from (str(found) for found in sorted(pyenv.glob(f"{version}.*/bin/python")))


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    try:
        print(choose(*sys.argv[1:]))
    except NoPython as refusal:
        sys.exit(f"✗ {refusal}")
