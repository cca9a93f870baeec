"""One file of a hub → its place on the disk: resumed where the last run stopped, and exact or not there at all.

The bytes grow in a file beside the place, which is renamed once its hash is the one that the hub listed. So a
kill at any byte leaves a beginning to go on from, and what goes on from a spoiled beginning does not pass.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from threading import Event

from build.hub.remote import Hiccup, Hub, RemoteFile, Snapshot
from build.steps import console
from contract.errors import BuildError

WAITS_S = (0.2, 1.0, 3.0, 10.0, 30.0)  # between tries that bring nothing new
LONGEST_WAIT_S = 300.0  # that a hub may ask for: a window of its rate limit
TRIES = 3  # of a whole file whose hash is wrong
PARTIAL = ".fetching"


class Stopped(Exception):
    """Another file has failed for good."""


@dataclass(frozen=True)
class Task:
    """What the files of one snapshot have in common while they come."""

    hub: Hub
    snapshot: Snapshot
    report: Callable[[int], None]  # told of bytes as they come; below 0: some that seemed there must come again
    stop: Event

    def alive(self) -> None:
        """Raise Stopped once there is no use in going on."""
        if self.stop.is_set():
            raise Stopped


def missing(hub: Hub, snapshot: Snapshot, file: RemoteFile) -> int:
    """How many bytes of a file are still to come, as far as lengths tell."""
    place = hub.place(snapshot, file)
    return 0 if place.exists() else file.size - min(file.size, _size(_partial(place)))


def _partial(place: Path) -> Path:
    """Where the bytes of a file grow."""
    return place.with_name(place.name + PARTIAL)


def download(task: Task, file: RemoteFile) -> None:
    """Put a file into its place, unless it is there and right.

    Raises:
        BuildError: it cannot be had, or keeps coming wrong.
        OSError: the disk does not take it.
    """
    place = task.hub.place(task.snapshot, file)
    if place.exists():
        if place.stat().st_size == file.size and file.digest_of(place, task.alive) == file.digest:
            return
        console.print(f"[yellow]{file.name}[/yellow]: its copy on this disk is spoiled, it comes again")
        task.report(-file.size)
        place.unlink()
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(place)
    for _ in range(TRIES):
        _complete(task, file, partial)
        found = file.digest_of(partial, task.alive)
        if found == file.digest:
            _settle(partial, place)
            return
        console.print(f"[yellow]{file.name}[/yellow]: its hash is wrong, it comes again")
        task.report(-file.size)
        partial.unlink()
    raise BuildError(
        f"{file.name} of {task.snapshot} has {file.algorithm} {found}, the hub lists {file.digest}, {TRIES} times over",
        fix=f"Do not use it; try another mirror ({task.hub.ENDPOINT}), or tell the repository's owner",
    )


def _settle(partial: Path, place: Path) -> None:
    """Rename, so that the name never stands for fewer bytes, even after a power cut."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(place)


def _complete(task: Task, file: RemoteFile, partial: Path) -> None:
    """Receive what is missing, in as many tries as bring something, and a few more."""
    furthest = _size(partial)
    waits = iter(WAITS_S)
    while True:
        task.alive()
        try:
            _receive(task, file, partial)
            return
        except Hiccup as hiccup:
            if (now := _size(partial)) > furthest:
                furthest, waits = now, iter(WAITS_S)
            wait_s = next(waits, None)
            if wait_s is None or (hiccup.wait_s or 0) > LONGEST_WAIT_S:
                raise BuildError(
                    f"{task.snapshot} could not be downloaded: {file.name}: {hiccup}",
                    fix=hiccup.fix or f"Run it again: what came is kept. {task.hub.ENDPOINT} names a mirror",
                ) from None
            if hiccup.wait_s is not None:
                wait_s = hiccup.wait_s
            if wait_s >= 1:
                console.print(f"[yellow]{file.name}[/yellow]: {hiccup}; again in {wait_s:.0f} s")
            task.stop.wait(wait_s)


def _size(partial: Path) -> int:
    return partial.stat().st_size if partial.exists() else 0


def _receive(task: Task, file: RemoteFile, partial: Path) -> None:
    """Append what one response has of the missing bytes.

    Raises:
        Hiccup: it did not have all of them, or says what cannot be.
    """
    with partial.open("ab", buffering=0) as out:  # unbuffered: a kill costs what is under way, and no more
        have = out.seek(0, os.SEEK_END)
        if have > file.size:
            task.report(-file.size)
            have = out.truncate(0)
        if have == file.size:
            return
        with task.hub.receive(task.snapshot, file, have) as body:
            if body.length not in (None, file.size):
                raise Hiccup(f"the hub sends a file of {body.length} bytes and lists one of {file.size}")
            if body.start not in (0, have):
                raise Hiccup(f"asked for the bytes from {have} on, the hub sent those from {body.start} on")
            if body.start < have:
                task.report(-have)
                have = out.truncate(0)
            for chunk in body.chunks:
                task.alive()
                if have + len(chunk) > file.size:
                    raise Hiccup(f"the hub sent more than the {file.size} bytes that it lists")
                _write(out, chunk)
                have += len(chunk)
                task.report(len(chunk))
        if have < file.size:
            raise Hiccup(f"the hub ended the file at {have} of {file.size} bytes")


def _write(out: FileIO, chunk: bytes) -> None:
    """All of it: a disk that is nearly full takes less than it is given."""
    view = memoryview(chunk)
    while view:
        view = view[out.write(view) :]
