"""What an engine that has worked holds: the host's memory, shared pages counted once, and the GPU's."""

import os
from contextlib import suppress
from typing import Any

import psutil

from loadtests.command import nvidia_smi
from loadtests.compare.doors import Door


def memory(door: Door) -> dict[str, Any]:
    """Of all processes behind a door."""
    held = {"host_mib": round(sum(_pss(process) for process in _family(door)) / 2**20, 1)}
    with suppress(ValueError):
        only = os.environ.get("CUDA_VISIBLE_DEVICES")
        which = [f"--id={only}"] if only else []
        if said := nvidia_smi("memory.used", "--format=csv,noheader,nounits", *which):
            held["gpu_mib"] = float(sum(map(int, said.splitlines())))
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
