"""What an engine that has worked holds: the host's memory, shared pages counted once, and the GPU's."""

from contextlib import suppress
from typing import Any

import psutil

from loadtests.compare.doors import Door
from loadtests.gpu import gpu_memory_mib


def memory(door: Door) -> dict[str, Any]:
    """Of all processes behind a door."""
    host = round(sum(_pss(process) for process in _family(door)) / 2**20, 1)
    return {"host_mib": host, **gpu_memory_mib()}


def _family(door: Door) -> list[psutil.Process]:
    found: dict[int, psutil.Process] = {}
    for root in door.roots():
        with suppress(psutil.Error):
            found |= {each.pid: each for each in (root, *root.children(recursive=True))}
    return list(found.values())


def _pss(process: psutil.Process) -> int:
    """Its share of every page that it has in memory."""
    with suppress(psutil.Error):
        return int(process.memory_full_info().pss)
    return 0
