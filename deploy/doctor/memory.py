"""Shared and locked memory: the two limits that containers come with and that NCCL and RDMA run into."""

import os
import resource

from deploy.doctor.case import Case
from deploy.doctor.result import Result

_SHM = "/dev/shm"  # noqa: S108
_MIB = 2**20
_CPU_MIB = 256  # Triton's regions for a handful of stages
_GPU_MIB = 1024  # a GPU: NCCL's buffers between the processes of one machine
_UNLIMITED = resource.RLIM_INFINITY


def shm(case: Case) -> Result:
    """Whether /dev/shm has room for Triton's tensors and NCCL's buffers."""
    disk = os.statvfs(_SHM)
    return judge_shm(disk.f_frsize * disk.f_blocks // _MIB, disk.f_frsize * disk.f_bavail // _MIB, case)


def judge_shm(total_mib: int, free_mib: int, case: Case) -> Result:
    """The verdict on a size."""
    needed = case.gpus * _GPU_MIB or _CPU_MIB
    seen = f"{free_mib} MiB free of {total_mib}"
    if total_mib < needed:
        gib = -(-needed // 1024)
        return Result(_SHM, "fail", seen, f"{needed} MiB are needed: --shm-size={gib}g or --ipc=host")
    if free_mib < needed:
        return Result(_SHM, "warn", seen, f"{needed} MiB are needed: see what ended programs left there")
    return Result(_SHM, "ok", seen)


def memlock(case: Case) -> Result:
    """Whether GPUs and RDMA devices can register memory."""
    return judge_memlock(resource.getrlimit(resource.RLIMIT_MEMLOCK)[0], case)


def judge_memlock(limit: int, case: Case) -> Result:
    """The verdict on a limit in bytes."""
    if limit == _UNLIMITED:
        return Result("memlock", "ok", "no limit")
    seen = f"{limit // 1024} KiB"
    if not case.several_gpus:
        return Result("memlock", "ok", f"{seen}; nothing here locks more")
    todo = "--ulimit memlock=-1 for a container; LimitMEMLOCK=infinity for a service; limits.conf for a login"
    return Result("memlock", "fail", seen, todo)
