"""What a running deployment leaves on disk for others to see: one lock and one state file in .conch/NAME/.

The lock is a flock, so the kernel frees it however its holder dies. The state stands in a file of its
own, replaced as a whole, so that no reader meets half of it or has to touch the lock.
"""

import fcntl
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec

from contract.errors import ServeError
from contract.stage import ADMIN, CANARY, DRAINING, LOCK
from contract.state import STATE, State, read_state

OPEN = "open"  # becomes DRAINING
_LOCK_TRIES = 10


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the deployment's lock; one server a deployment.

    Raises:
        ServeError: another supervisor holds it, or the folder cannot be written.
    """
    with _open(folder / LOCK) as file:
        if not _locks(file):
            state = read_state(folder)
            holder = f"pid {state.supervisor_pid}" if state else "a process that is just starting"
            raise ServeError(
                f"{folder.name} is already served by {holder}", fix="make status shows it, make down stops it"
            )
        try:
            (folder / DRAINING).unlink(missing_ok=True)
            _open(folder / OPEN).close()
            for name in (CANARY, ADMIN):
                with _open(folder / name) as secret:
                    (folder / name).chmod(0o600)
                    secret.write(f"{name}-{secrets.token_hex(16)}")
            yield
        finally:
            for name in (STATE, DRAINING, OPEN, CANARY, ADMIN):
                (folder / name).unlink(missing_ok=True)


def _locks(file: IO[str]) -> bool:
    """Whether the lock is ours now; who writes a model repository holds it for milliseconds."""
    for _ in range(_LOCK_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.05)
    return False


def _open(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w")
    except OSError as error:
        raise ServeError(f"{path} cannot be written: {error.strerror}", fix="Free or mount its disk") from None


def refuse_new_requests(folder: Path) -> None:
    """Tell the stages that the server drains: a file is renamed, for which a full disk has room too."""
    (folder / OPEN).replace(folder / DRAINING)


def take_requests_again(folder: Path) -> None:
    """The inverse of :func:`refuse_new_requests`."""
    (folder / DRAINING).replace(folder / OPEN)


def write_state(folder: Path, state: State) -> None:
    """Replace the state file.

    Raises:
        OSError: the disk is full, or gone; the state that was told before stays.
    """
    fresh = folder / f"{STATE}.new"
    fresh.write_bytes(msgspec.json.encode(state))
    fresh.replace(folder / STATE)
