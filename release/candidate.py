"""The version on trial: built apart from the one that serves, and served beside it by a supervisor of its own.

It lives in a folder of its own under the deployment's run folder, with ports of its own, and ends with the process that
releases it, however that ends: its supervisor's standard input is a pipe from here.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from contract import programs
from contract.address import free_ports
from contract.checkout import ROOT
from contract.errors import ServeError
from contract.manifest import engines_root
from contract.spec import Deployment, write_spec
from contract.stage import run_dir
from contract.state import LOG, Phase, read_state

_HOME = "trial"  # short: the paths of sockets are
_STOP_S = 60.0
_SOON_S = 0.1


def built(config: Path, root: Path, builder: Path) -> Path | None:
    """The engine of a version, built and verified, while the current one stays current; None for one without weights.

    Args:
        builder: the Python that make engine runs in.

    Raises:
        BuildError: it cannot be built, or does not agree with its reference.
    """
    engine = programs.built(builder, config, "--root", str(root), "--apart")
    return Path(engine) if engine else None


@dataclass(frozen=True)
class Candidate:
    """A version that is served beside the current one."""

    spec: Deployment  # with its own ports
    config: Path
    root: Path
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def trouble(self) -> str:
        """Why it is not to be trusted any more; '' while it serves."""
        state = read_state(run_dir(self.root, self.spec.name))
        if self.process.poll() is not None or state is None:
            return f"its server ended: {self._last_words()}"
        if state.restarts:
            return f"its server ended: {state.last_failure}"
        return ""

    def wait(self) -> None:
        """Return once it is ready.

        Raises:
            ServeError: it does not start, with its own words.
        """
        while True:
            state = read_state(run_dir(self.root, self.spec.name))
            if self.process.poll() is not None:
                raise ServeError(f"it does not start: {self._last_words()}")
            if state and state.restarts:
                raise ServeError(f"it does not start: {state.last_failure}")
            if state and state.phase is Phase.READY:
                return
            time.sleep(_SOON_S)

    def _last_words(self) -> str:
        said = self.log.read_text(errors="replace").splitlines()
        refusals = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
        return (refusals or [line for line in said if line.strip()] or ["it said nothing"])[-1]


@contextmanager
def beside(spec: Deployment, engine: Path | None, live_root: Path, log: Path) -> Iterator[Candidate]:
    """Serve a version beside the current one for the length of a ``with`` block, in which it becomes ready.

    Its folder goes with it, but for its server's log, which is then beside the supervisor's.

    Args:
        log: takes what its supervisor says.

    Raises:
        ServeError: its model repository cannot be written.
    """
    root = run_dir(live_root, spec.name) / _HOME
    home = engines_root(root, spec.name)
    home.mkdir(parents=True, exist_ok=True)
    if engine:
        point(home / "current", engine)
    own = apart(spec)
    config = root / "config.yaml"
    write_spec(config, own)
    write_repository(config, root)
    words = (*programs.SERVING, "serve", str(config), "--root", str(root), "--with-parent")
    with log.open("wb") as said:
        process = subprocess.Popen(
            (sys.executable, *words),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    assert process.stdin is not None
    try:
        yield Candidate(own, config, root, log, process)
    finally:
        process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
        process.kill()
        process.wait()
        with suppress(OSError):
            shutil.move(run_dir(root, spec.name) / LOG, log.with_name(LOG))
        shutil.rmtree(root, ignore_errors=True)


def apart(spec: Deployment) -> Deployment:
    """A version's spec on ports of its own, without a gateway."""
    ports = dict(zip(("http", "grpc", "metrics"), free_ports(3), strict=True))
    changed = {
        "ports": spec.ports.model_copy(update={"host": "127.0.0.1", **ports}),
        "gateway": spec.gateway.model_copy(update={"enabled": False, "replicas": ()}),
    }
    return spec.model_copy(update=changed)


def point(link: Path, target: Path) -> None:
    """Make a link point somewhere else, in one step."""
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.symlink_to(target)
    fresh.replace(link)


def write_repository(config: Path, root: Path, *words: str) -> None:
    """Have a model repository written.

    Raises:
        ServeError: it cannot be.
    """
    command = [sys.executable, *programs.REPOSITORY, str(config), str(root), *words]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode:
        raise ServeError((run.stderr or run.stdout).strip())
