"""Whether a second server fits beside the one that runs: it is expected to take as much as that one has."""

import subprocess
from contextlib import suppress

import psutil

from contract.errors import ServeError
from contract.spec import Deployment

_QUERY = ["nvidia-smi", "--query-gpu=memory.used,memory.free", "--format=csv,noheader,nounits"]
_SWAP = "Release it with SWAP=1: the server drains, and nothing is answered while the new version loads"


def check_room(spec: Deployment, server_pid: int) -> str:
    """How much room there is, for the report.

    Raises:
        ServeError: too little.
    """
    taken, free = _resident(server_pid), psutil.virtual_memory().available
    check_fits("memory", taken, free)
    said = f"{taken / 2**30:.1f} GiB of memory beside the {free / 2**30:.1f} that are free"
    if spec.engine.kind.on_gpus:
        for number, (used, left) in enumerate(_gpus()):
            check_fits(f"GPU {number}", used * 2**20, left * 2**20)
    return said


def check_fits(where: str, taken: int, free: int) -> None:
    """Refuse a second of what takes so many bytes where so many are free.

    Raises:
        ServeError: with the way out.
    """
    if taken > free:
        raise ServeError(
            f"{where}: the server that runs has {taken / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free: "
            "a second one does not fit beside it",
            fix=_SWAP,
        )


def _resident(pid: int) -> int:
    """The bytes that a process and all its children hold, what they share counted once for each."""
    total = 0
    with suppress(psutil.Error):
        server = psutil.Process(pid)
        for process in (server, *server.children(recursive=True)):
            with suppress(psutil.Error):
                total += process.memory_info().rss
    return total


def _gpus() -> list[tuple[int, int]]:
    """Used and free MiB of every GPU; none where there is no driver."""
    try:
        said = subprocess.run(_QUERY, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.split(",") for line in said.splitlines()]
    return [(int(used), int(free)) for used, free in rows if used.strip().isdigit() and free.strip().isdigit()]
