"""What a machine with NVIDIA GPUs has, as TensorRT-LLM sees it: GPUs, driver, libraries, shared and locked memory."""

import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from contract.launcher import launched

UNLIMITED = resource.RLIM_INFINITY
_QUERY = "--query-gpu=index,uuid,name,compute_cap,memory.total,driver_version"
_SHM = Path("/dev/shm")  # noqa: S108


@dataclass(frozen=True)
class FoundGpu:
    """One GPU of the machine."""

    name: str
    sm: int
    memory_gib: int  # 0 where the driver does not tell, as of GPUs that share the host's


@dataclass(frozen=True)
class GpuMachine:
    """A machine that builds or serves with TensorRT-LLM."""

    gpus: tuple[FoundGpu, ...]
    driver: str  # '' without a driver
    tensorrt_llm: str  # '' where it is not installed
    tensorrt: str
    triton_release: str  # 26.07, as the container calls itself; '' outside
    shm_bytes: int
    memlock_bytes: int  # UNLIMITED, or less
    launched: bool  # by trtllm-llmapi-launch, which has a process on every node


def this_gpu_machine() -> GpuMachine:
    """The machine this process runs on."""
    gpus, driver = find_gpus()
    installed = installed_version("tensorrt_llm")
    disk = os.statvfs(_SHM)
    return GpuMachine(
        gpus=gpus,
        driver=driver,
        tensorrt_llm=installed,
        tensorrt=_tensorrt() if installed else "",
        triton_release=triton_release(),
        shm_bytes=disk.f_frsize * disk.f_blocks,
        memlock_bytes=resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
        launched=launched(),
    )


def triton_release() -> str:
    """26.07, as this container calls itself; '' outside."""
    return os.environ.get("NVIDIA_TRITON_SERVER_VERSION", "")


def find_gpus() -> tuple[tuple[FoundGpu, ...], str]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, and the driver's version; none and '' where there is no driver."""
    try:
        said = subprocess.run(
            ["nvidia-smi", _QUERY, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return (), ""
    rows = [[cell.strip() for cell in line.split(",")] for line in said.splitlines() if line.count(",") == 5]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    wanted = None if visible is None else [each.strip() for each in visible.split(",") if each.strip()]
    gpus = tuple(
        FoundGpu(name, int(capability.replace(".", "")), int(memory) // 1024 if memory.isdigit() else 0)
        for index, uuid, name, capability, memory, _ in rows
        # Numbers, or the beginnings of UUIDs.
        if wanted is None or index in wanted or any(uuid.startswith(each) for each in wanted if not each.isdigit())
    )
    return gpus, rows[0][5] if rows else ""


def installed_version(package: str) -> str:
    """The version of an installed package; '' without it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _tensorrt() -> str:
    """TensorRT says its version itself: a container's label can differ from the library inside."""
    run = subprocess.run(
        [str(Path(sys.prefix) / "bin" / "python3"), "-c", "import tensorrt; print(tensorrt.__version__)"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return run.stdout.strip()
