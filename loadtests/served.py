"""A deployment's server for the length of a measurement, started and stopped through a user's own buttons."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from contract import programs
from contract.checkout import ROOT
from contract.errors import ServeError
from contract.spec import Deployment, load_spec
from contract.stage import run_dir


@contextmanager
def served(config: Path, root: Path = ROOT) -> Iterator[int]:
    """Serve a deployment; yields the process id of its Triton server.

    Args:
        root: what several servers of one deployment must not share.

    Raises:
        ServeError: it did not start, with its own message.
    """
    _press(programs.REPOSITORY, str(config), str(root))
    try:
        up(config, root)
    except ServeError:  # nothing is left running; what ran before under this name is not ours to stop
        raise
    except BaseException:
        _press(programs.SERVING, "down", str(config), "--root", str(root))
        raise
    try:
        yield state_of(load_spec(config), root)["server_pid"]
    finally:
        _press(programs.SERVING, "down", str(config), "--root", str(root))


def up(config: Path, root: Path = ROOT) -> None:
    """Start a deployment whose repository is written; returns when it is ready.

    Raises:
        ServeError: as :func:`served`.
    """
    _press(programs.SERVING, "up", str(config), "--root", str(root))


def state_of(spec: Deployment, root: Path = ROOT) -> dict[str, Any]:
    """What its supervisor last told (serving/rundir.py); {} when it told nothing."""
    with suppress(FileNotFoundError):
        state: dict[str, Any] = json.loads((run_dir(root, spec.name) / "state.json").read_text())
        return state
    return {}


def _press(program: programs.Program, *arguments: str) -> None:
    command = [sys.executable, *program, *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    sys.stderr.write(run.stderr)
    if run.returncode:
        said = (run.stderr or run.stdout).strip()[-1000:]
        raise ServeError(f"python {' '.join((*program, *arguments))} failed with code {run.returncode}: {said}")
