"""What an engine that has worked holds: the host's memory, shared pages counted once, and the GPU's."""

import os
import subprocess
from contextlib import suppress
from typing import Any

import psutil

from loadtests.compare.doors import Door


def memory(door: Door) -> dict[str, Any]:
    """Of all processes behind a door."""
    held = {"host_mib": round(sum(_pss(process) for process in _family(door)) / 2**20, 1)}
    with suppress(OSError, ValueError, IndexError):
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        if only := os.environ.get("CUDA_VISIBLE_DEVICES"):
            query.append(f"--id={only}")
        said = subprocess.run(query, capture_output=True, text=True, check=False).stdout
        held["gpu_mib"] = float(sum(int(line) for line in said.splitlines()))
    return held


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
