"""A supervised server as seen from outside: started in a process of its own, awaited, read, stopped.

The supervisor is always a process (signals and the server's life are tied to one), so the
background server of ``make up`` and the servers of tests and benches are one and the same thing.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from contract import programs
from contract.checkout import ROOT
from contract.errors import ServeError
from contract.spec import Deployment, write_spec
from contract.stage import DRAINING, run_dir
from contract.state import LOG, Phase, State, read_state
from serving.screen import REFUSAL

PROGRAM = (sys.executable, *programs.SERVING)
STOP_TIMEOUT_S = 60.0  # more than the supervisor itself takes to drain and to kill


@dataclass(frozen=True)
class Running:
    """A deployment whose supervisor runs."""

    spec: Deployment
    folder: Path
    supervisor_pid: int

    @property
    def state(self) -> State:
        """What the supervisor last told.

        Raises:
            ServeError: it is gone.
        """
        state = read_state(self.folder)
        if state is None or state.supervisor_pid != self.supervisor_pid:
            raise ServeError(f"{self.spec.name} is not running any more", fix=f"Its log is {self.log}")
        return state

    @property
    def pid(self) -> int:
        """The Triton server's process id; 0 between two servers."""
        return self.state.server_pid

    @property
    def restarts(self) -> int:
        """How often the server was restarted."""
        return self.state.restarts

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.folder / LOG


def find(spec: Deployment, root: Path) -> Running | None:
    """The supervised server of a deployment, or None."""
    folder = run_dir(root, spec.name)
    state = read_state(folder)
    return Running(spec, folder, state.supervisor_pid) if state else None


def start(
    spec: Deployment,
    root: Path,
    config: str,
    show: Callable[[str], None] = print,
    program: Sequence[str] = PROGRAM,
) -> Running:
    """Start a supervisor in the background and return once its server is ready.

    Args:
        root: the folder of engines/, model_repository/ and .conch/.
        config: path of the spec's file.
        show: takes each line that the supervisor says until then.
        program: what has the command ``serve``.

    Raises:
        ServeError: the server did not become ready; nothing is left running.
    """
    path = Path(config).resolve()
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    command = (*program, "serve", str(shown), "--root", str(root.resolve()))
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert child.stdout is not None
    output = _Output(child.stdout.fileno())
    folder = run_dir(root, spec.name)
    refusal: list[str] = []
    try:
        while True:
            ended = child.poll() is not None
            state = read_state(folder)
            ready = state is not None and state.supervisor_pid == child.pid and state.phase is Phase.READY
            # Read after looking: all that was said before the end, or before it was ready, is there.
            for line in output.lines():
                if refusal or line.startswith(REFUSAL):
                    refusal.append(line.removeprefix(REFUSAL))
                else:
                    show(line)
            if ready:
                return Running(spec, folder, child.pid)
            if ended:
                why = "\n".join(refusal)
                raise ServeError(why or f"{spec.name} ended with code {child.returncode} before it was ready")
            time.sleep(0.05)
    except BaseException:
        _end(child)
        raise
    finally:
        child.stdout.close()


def stop(running: Running, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Drain and stop a supervised server; return when nothing of it runs.

    Raises:
        ServeError: it is still there after ``timeout_s`` seconds.
    """
    try:
        supervisor = psutil.Process(running.supervisor_pid)
        state = read_state(running.folder)
        draining = (running.folder / DRAINING).exists() or (state is not None and state.phase is Phase.DRAINING)
        if not draining:  # a second request would kill
            supervisor.send_signal(signal.SIGTERM)
        supervisor.wait(timeout_s)
    except psutil.NoSuchProcess:
        return
    except psutil.TimeoutExpired:
        raise ServeError(
            f"{running.spec.name} still runs {timeout_s:g} s after it was asked to stop",
            fix=f"kill -9 {running.supervisor_pid} ends it with all its processes",
        ) from None


@contextmanager
def running(spec: Deployment, root: Path, program: Sequence[str] = PROGRAM) -> Iterator[Running]:
    """A supervised server for the length of a ``with`` block: ready when it begins, drained when it ends.

    The model repository must be written (build.repository.write_repository).

    Raises:
        ServeError: the server did not become ready.
    """
    folder = run_dir(root, spec.name)
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yaml"
    write_spec(config, spec)
    server = start(spec, root, str(config), show=lambda line: None, program=program)
    try:
        yield server
    finally:
        stop(server)


class _Output:
    """The lines of a pipe, as far as they are there."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._partial = b""
        os.set_blocking(descriptor, False)

    def lines(self) -> list[str]:
        """Those that are complete."""
        with suppress(BlockingIOError):
            while chunk := os.read(self._descriptor, 65536):
                self._partial += chunk
        *complete, self._partial = self._partial.split(b"\n")
        return [line.decode("utf-8", "replace") for line in complete]


def _end(child: subprocess.Popen[bytes]) -> None:
    """Stop a supervisor that did not get its server ready."""
    for number, patience_s in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        child.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(patience_s)
            return
