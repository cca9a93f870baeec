"""How fast the disk is that engines are read from, with a file that is small and gone before it is closed."""

import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from deploy.doctor.case import Case
from deploy.doctor.result import Result

_MIB = 2**20
_BLOCK = 4 * _MIB
_FILE_MIB = 256
_SECONDS = 3.0  # and then it ends, for each direction, however little was done
_SLOW_MBPS = 200  # 100 GB of weights take eight minutes, at each start


def check(case: Case) -> Result:
    """Speed and room of the disk below ``engines/``."""
    folder = next(path for path in (case.engines, *case.engines.resolve().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    if free < 2 * _FILE_MIB * _MIB:
        return Result("disk", "fail", f"{folder}: {free / 1e9:.1f} GB free", "an engine needs more: make room")
    try:
        written, read, direct = measure(folder)
    except OSError as error:
        return Result("disk", "skipped", f"{folder}: {error.strerror}")
    return judge(f"{folder}: {free / 1e9:.0f} GB free", written, read, direct)


def judge(room: str, written: float, read: float, direct: bool) -> Result:
    """The verdict on speeds in MB/s."""
    how = "past the page cache" if direct else "with the page cache's help"
    seen = f"{room}; reads {read:.0f} MB/s, writes {written:.0f} MB/s ({how})"
    if read < _SLOW_MBPS:
        minutes = 100e3 / read / 60
        return Result(
            "disk", "warn", seen, f"100 GB of weights take {minutes:.0f} min: keep engines/ on a local NVMe disk"
        )
    return Result("disk", "ok", seen)


def measure(folder: Path) -> tuple[float, float, bool]:
    """MB/s written and read, and whether past the page cache."""
    descriptor, name = tempfile.mkstemp(prefix=".doctor-", dir=folder)
    try:
        Path(name).unlink()
        # Opened anew by its number, as tempfile cannot pass O_DIRECT; not every file system has it.
        try:
            direct = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR | os.O_DIRECT)
        except OSError:
            direct = -1
        try:
            with mmap.mmap(-1, _BLOCK) as block:  # O_DIRECT wants a page's alignment
                block.write(os.urandom(_BLOCK))  # compressing disks would make zeros fast
                return *_both(direct if direct >= 0 else descriptor, block), direct >= 0
        finally:
            if direct >= 0:
                os.close(direct)
    finally:
        os.close(descriptor)


def _both(descriptor: int, block: mmap.mmap) -> tuple[float, float]:
    def write(at: int) -> int:
        return os.pwrite(descriptor, block, at)

    def read(at: int) -> int:
        return os.preadv(descriptor, [block], at)

    written, wrote = _rate(write, _FILE_MIB * _MIB, lambda: os.fsync(descriptor))
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return wrote, _rate(read, written, lambda: None)[1]


def _rate(once: Callable[[int], int], size: int, last: Callable[[], None]) -> tuple[int, float]:
    """Bytes done, and MB/s."""
    done, began = 0, time.perf_counter()
    while done < size and time.perf_counter() - began < _SECONDS:
        done += once(done)
    last()
    return done, done / 1e6 / (time.perf_counter() - began)
