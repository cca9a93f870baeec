"""What nvidia-smi says of this machine's GPUs; nothing where there is none."""

import os
import subprocess
from contextlib import suppress


def gpus() -> str:
    """A line for each."""
    return _asked("name,driver_version,memory.total", "csv,noheader")


def gpu_memory_mib() -> dict[str, float]:
    """What is in use on those that CUDA_VISIBLE_DEVICES leaves, as ``gpu_mib``; {} without one."""
    only = os.environ.get("CUDA_VISIBLE_DEVICES")
    with suppress(ValueError):
        if said := _asked("memory.used", "csv,noheader,nounits", *([f"--id={only}"] if only else [])):
            return {"gpu_mib": float(sum(map(int, said.splitlines())))}
    return {}


def _asked(query: str, form: str, *more: str) -> str:
    with suppress(OSError):
        command = ["nvidia-smi", f"--query-gpu={query}", f"--format={form}", *more]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return ""
