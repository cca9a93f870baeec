"""What a running deployment leaves on disk for others to see: one lock and one state file in .conch/NAME/.

The lock is a flock, so the kernel frees it however its holder dies. The state stands in a file of its
own, replaced as a whole, so that no reader meets half of it or has to touch the lock.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import msgspec
import psutil

from contract.errors import ServeError
from contract.stage import DRAINING

LOCK = "lock"
STATE = "state.json"
LOG = "server.log"


class Phase(StrEnum):
    """What a supervised server is doing."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    DRAINING = "draining"


class State(msgspec.Struct, frozen=True):
    """What the supervisor of a deployment tells about itself."""

    phase: Phase
    supervisor_pid: int
    supervisor_created: float  # of the process, s since the epoch: tells a reused pid from the real one
    started_at: float  # s since the epoch
    server_pid: int = 0  # 0: none at this moment
    ready_at: float = 0.0  # s since the epoch; 0: not ready
    restarts: int = 0
    last_failure: str = ""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the deployment's lock; one server a deployment.

    Raises:
        ServeError: another supervisor holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            state = read_state(folder)
            holder = f"pid {state.supervisor_pid}" if state else "a process that is just starting"
            raise ServeError(
                f"{folder.name} is already served by {holder}", fix="make status shows it, make down stops it"
            ) from None
        try:
            yield
        finally:
            for name in (STATE, DRAINING):
                (folder / name).unlink(missing_ok=True)


def write_state(folder: Path, state: State) -> None:
    """Replace the state file."""
    fresh = folder / f"{STATE}.new"
    fresh.write_bytes(msgspec.json.encode(state))
    fresh.replace(folder / STATE)


def read_state(folder: Path) -> State | None:
    """The state of the deployment's supervisor, or None when none is alive."""
    try:
        state = msgspec.json.decode((folder / STATE).read_bytes(), type=State)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return state if is_alive(state.supervisor_pid, state.supervisor_created) else None


def is_alive(pid: int, created: float) -> bool:
    """True when this very process still runs (a zombie does not)."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - created) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def created_at(pid: int | None = None) -> float:
    """When a process (this one by default) was created, s since the epoch."""
    return psutil.Process(os.getpid() if pid is None else pid).create_time()
