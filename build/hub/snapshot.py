"""The files of a repository that a runtime needs → the hub's cache: chosen, room made sure of, then side by side."""

import fnmatch
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage
from threading import Event

from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from build.hub.download import Task, download, missing
from build.hub.remote import Hiccup, Hub, RemoteFile, Snapshot, hub_of
from build.steps import NO_ROOM, console, exclusive
from contract.errors import BuildError
from contract.sections import HubSource

WORKERS = 8
INDEX = "model.safetensors.index.json"
# Beside the weights. What these name is small; *.py is code that some models bring, which no step here runs, but a
# runtime that is told to trust it does.
BESIDE = ("*.json", "*.model", "*.tiktoken", "*.txt", "*.jinja", "*.py")


@dataclass(frozen=True)
class Fetched:
    """Files of a repository, in the cache and exact."""

    snapshot: Snapshot
    folder: Path
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(file.size for file in self.files)


def collect(source: HubSource, patterns: tuple[str, ...] = ()) -> Fetched:
    """Bring what a runtime needs of a repository into the cache of its hub's library.

    Args:
        patterns: only these of the files beside the weights.

    Raises:
        BuildError: the repository, the revision, the network, the disk or a hash is not as it should be.
    """
    hub = hub_of(source.kind)
    try:
        snapshot = hub.find(source.repo, source.wanted)
    except Hiccup as hiccup:
        raise BuildError(
            f"{source.repo}@{source.wanted} could not be downloaded: {hiccup}",
            fix=hiccup.fix or f"Check the network and {hub.ENDPOINT}, which names a mirror",
        ) from None
    home = hub.home(source.repo)
    with exclusive(home):
        if patterns:
            files = [file for file in _beside(snapshot) if _like(file.name, patterns)]
        else:
            index = [file for file in snapshot.files if file.name == INDEX]
            _bring(hub, snapshot, index, home)
            weights = _weights(snapshot, _shards(hub.place(snapshot, index[0])) if index else None)
            files = [*_beside(snapshot), *weights]
            console.print(
                f"downloading {snapshot} from {hub.TITLE}: {len(files)} files, "
                f"{decimal(sum(file.size for file in files))}, commit {snapshot.commit}"
            )
        _bring(hub, snapshot, files, home, shown=not patterns)
        return Fetched(snapshot, hub.finish(snapshot, files), tuple(files))


def _like(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _top(snapshot: Snapshot) -> list[RemoteFile]:
    """Without the folders: other formats of the same weights lie there."""
    return [file for file in snapshot.files if "/" not in file.name]


def _beside(snapshot: Snapshot) -> list[RemoteFile]:
    return [file for file in _top(snapshot) if _like(file.name, BESIDE)]


def _shards(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BuildError(f"{index} is no index of shards", fix="Use another source.revision") from None


def _weights(snapshot: Snapshot, named: list[str] | None) -> list[RemoteFile]:
    """The shards that the index names; without one, model.safetensors; else every *.safetensors."""
    there = {file.name: file for file in _top(snapshot) if file.name.endswith(".safetensors")}
    if named is not None:
        if absent := [name for name in named if name not in there]:
            raise BuildError(
                f"{snapshot} lacks {', '.join(absent)}, which its index names", fix="Use another source.revision"
            )
        return [there[name] for name in named]
    if not there:
        raise BuildError(f"{snapshot} has no *.safetensors", fix="Use a repository that has its weights in them")
    return [there["model.safetensors"]] if "model.safetensors" in there else list(there.values())


def _bring(hub: Hub, snapshot: Snapshot, files: list[RemoteFile], home: Path, shown: bool = False) -> None:
    """Download files side by side; the first that fails for good ends the others."""
    files = list({hub.place(snapshot, file): file for file in files}.values())  # equal files may share a place
    size, needed = sum(file.size for file in files), sum(missing(hub, snapshot, file) for file in files)
    _make_room(hub, snapshot, needed, home)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with (
        Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as progress,
        ThreadPoolExecutor(WORKERS) as pool,
    ):
        bar = progress.add_task("fetch", total=size, completed=size - needed)
        task = Task(hub, snapshot, lambda count: progress.advance(bar, count), Event())
        # The largest first: the last to end are small then.
        pending = [pool.submit(download, task, file) for file in sorted(files, key=lambda file: -file.size)]
        try:
            for future in as_completed(pending):
                future.result()
        except OSError as error:
            if error.errno in NO_ROOM:
                raise BuildError(
                    f"fetch could not write in {home}: the disk is full, or a quota or file-size limit is reached",
                    fix=f"Free some space, or name another place in {hub.CACHE}, then run it again: what came is kept",
                ) from None
            raise
        finally:
            task.stop.set()
            pool.shutdown(cancel_futures=True)


def _make_room(hub: Hub, snapshot: Snapshot, needed: int, home: Path) -> None:
    """Refuse what the disk cannot hold, before the first byte."""
    free = disk_usage(home).free
    if needed > free:
        raise BuildError(
            f"{snapshot} needs another {decimal(needed)} in {home}, {decimal(free)} are free",
            fix=f"Free some space, or name another place in {hub.CACHE}",
        )
