"""Build steps that are done whole or not at all, and are not done twice.

A step works in a temporary folder, which is synced to disk and renamed when the step returns: whatever
interrupts it, nothing is left that looks finished. Its folder's name carries a key over everything the
result depends on, so that a rerun takes up where the last one stopped.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from build import interrupt
from contract.errors import BuildError, ConchError

console = Console(stderr=True, highlight=False, soft_wrap=True)
_UNFINISHED = ".unfinished"


def key_of(*parts: Any) -> str:
    """Twelve hex digits over JSON-like values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


@contextmanager
def exclusive(work: Path) -> Iterator[None]:
    """Hold a work folder for one build, and clear what a killed one left half made.

    Raises:
        BuildError: another build holds it.
    """
    work.mkdir(parents=True, exist_ok=True)
    with (work / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BuildError(f"another build is at work in {work}", fix="Wait until it has finished") from None
        for left in work.glob(f".*{_UNFINISHED}"):
            shutil.rmtree(left)
        yield


def step(
    work: Path, name: str, key: str, make: Callable[[Path], None], *, needs_bytes: int = 0, shows_itself: bool = False
) -> Path:
    """The finished folder of a step, made by ``make(folder)`` unless it is there already.

    Args:
        needs_bytes: what the step will write, as far as known; refused at once if the disk has less.
        shows_itself: whether ``make`` has a progress display of its own.

    Raises:
        BuildError: the step refused, or the disk is full; nothing of the step is left.
    """
    done = work / f"{name}-{key}"
    if done.exists():
        console.print(f"[dim]✓ {name}: kept from an earlier run[/dim]")
        return done
    unfinished = work / f".{name}-{key}{_UNFINISHED}"
    interrupt.unfinished.add(str(unfinished))
    unfinished.mkdir(parents=True)
    begun = time.monotonic()
    try:
        with room(name, work, needs_bytes), nullcontext() if shows_itself else alive(name):
            make(unfinished)
            sync(unfinished)
        unfinished.rename(done)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        interrupt.unfinished.discard(str(unfinished))
    console.print(f"[green]✓[/green] {name}: {time.monotonic() - begun:.0f} s")
    return done


def resumable_step(work: Path, name: str, key: str, make: Callable[[Path], None]) -> Path:
    """The same for a step of hours, whose ``make(folder)`` goes on with what an interrupted run left in the folder.

    What was left for another key is removed: it would never be gone on with. ``make`` shows its own progress.
    """
    done = work / f"{name}-{key}"
    if done.exists():
        console.print(f"[dim]✓ {name}: kept from an earlier run[/dim]")
        return done
    partial = work / f".{name}-{key}.partial"
    for stale in set(work.glob(f".{name}-*.partial")) - {partial}:
        shutil.rmtree(stale)
    partial.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    try:
        make(partial)
    finally:
        with suppress(OSError):
            partial.rmdir()  # of a step that was refused; what one has begun stays
    partial.rename(done)
    console.print(f"[green]✓[/green] {name}: {time.monotonic() - begun:.0f} s")
    return done


@contextmanager
def room(name: str, folder: Path, needs_bytes: int) -> Iterator[None]:
    """Say it as such if the disk has no room, before the work or in the middle of it.

    Raises:
        BuildError: it has none.
    """
    free = shutil.disk_usage(folder).free
    if free < needs_bytes:
        raise BuildError(
            f"{name} needs about {needs_bytes / 2**20:.0f} MiB in {folder}, {free / 2**20:.0f} MiB are free",
            fix="Free some space",
        )
    try:
        yield
    except Exception as error:
        if _no_room(error):
            raise BuildError(
                f"{name} could not write in {folder}: the disk is full, or a quota or file-size limit is reached",
                fix="Free some space, then run it again",
            ) from None
        raise


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _no_room(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error: safetensors, tokenizers and OpenVINO raise no OSError for it."""
    signs = [*(os.strerror(code) for code in NO_ROOM), "iostream error"]
    while error:
        if (isinstance(error, OSError) and error.errno in NO_ROOM) or any(sign in str(error) for sign in signs):
            return True
        error = error.__context__
    return False


def reason(error: Exception) -> str:
    """What a library's exception says, in one line."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def told(where: Path) -> Iterator[None]:
    """A command of ours: what it refuses, and what the disk does, is told in a line and ends it with code 1.

    Args:
        where: of an error that names no file.
    """
    try:
        yield
    except ConchError as refusal:
        said = str(refusal)
    except OSError as error:
        said = f"{error.filename or where}: {error.strerror}. Correct this and run it again"
    else:
        return
    console.print(f"[red]✗[/red] {escape(said)}")
    sys.exit(1)


@contextmanager
def alive(name: str) -> Iterator[None]:
    """Show in a terminal that ``name`` goes on, and for how long already; elsewhere nothing."""
    # Bound to the stream of now: quiet() must not silence it.
    terminal = Console(file=sys.stderr)
    columns = (SpinnerColumn(), TextColumn(name), TimeElapsedColumn())
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as progress:
        progress.add_task(name, total=None)
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' chatter (warnings, tables, bars) out of the terminal."""
    with (
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
        warnings.catch_warnings(action="ignore"),
    ):
        yield


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


def near(path: Path) -> Path:
    """A path as the user would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
