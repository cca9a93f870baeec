"""Build steps that are done whole or not at all, and are not done twice.

A step works in a temporary folder, which is synced to disk and renamed when the step returns: whatever
interrupts it, nothing is left that looks finished. Its folder's name carries a key over everything the
result depends on, so that a rerun takes up where the last one stopped.
"""

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from contract.errors import BuildError

console = Console(stderr=True, highlight=False)


def key_of(*parts: Any) -> str:
    """Twelve hex digits over JSON-like values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


def step(work: Path, name: str, key: str, make: Callable[[Path], None], needs_bytes: int = 0) -> Path:
    """The finished folder of a step, made by ``make(folder)`` unless it is there already.

    Args:
        needs_bytes: what the step will write, as far as known; refused at once if the disk has less.

    Raises:
        BuildError: the disk is full; nothing of the step is left.
    """
    done = work / f"{name}-{key}"
    if done.exists():
        console.print(f"[dim]✓ {name}: kept from an earlier run[/dim]")
        return done
    unfinished = work / f".{name}-{key}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    begun = time.monotonic()
    try:
        free = shutil.disk_usage(unfinished).free
        if free < needs_bytes:
            raise disk_full(work, needs_bytes, free)
        make(unfinished)
        sync(unfinished)
        unfinished.rename(done)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise disk_full(work, needs_bytes, None) from None
        raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    console.print(f"[green]✓[/green] {name}: {time.monotonic() - begun:.0f} s")
    return done


def disk_full(folder: Path, needed: int, free: int | None) -> BuildError:
    """The refusal of a build that does not fit the disk."""
    numbers = f" about {needed / 2**20:.0f} MiB are needed" if needed else ""
    numbers += f", {free / 2**20:.0f} MiB are free" if free is not None else ""
    return BuildError(
        f"the disk of {folder} is full:{numbers or ' nothing was kept of this step'}", fix="Free some space"
    )


def sync(folder: Path) -> None:
    """fsync every file of a folder, then the folder."""
    for path in [*folder.rglob("*"), folder]:
        if path.is_symlink():
            continue
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def swap_link(link: Path, target: str) -> None:
    """Point a symlink at another target, atomically."""
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        fresh.unlink()
    fresh.symlink_to(target)
    fresh.replace(link)


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
