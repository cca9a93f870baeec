"""A checkpoint in DeepSeek's block FP8 → the same in BF16, at the speed of the disk and in little memory.

A shard is written under another name, synced and renamed: a run that is killed at any moment loses the shards it was
at, and the next one goes on with those. Tensors are read, cast and written a few MiB at a time by every core, so that
memory holds some of those pieces whatever a shard's size.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from typing import Any

from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from build.cast_plan import INDEX, Plan, Shard, make_plan, new_config
from build.safetensors_file import write_from
from build.steps import console, room, sync

RECIPE = 1  # raised whenever cast() changes what it writes
_MARK = ".cast.json"  # in the new checkpoint: what it was cast from


def preview(source: Path, folder: Path) -> None:
    """Put the JSON files that the BF16 copy will have into ``folder``.

    Raises:
        BuildError: the checkpoint is not in block FP8; names the field.
    """
    config = new_config(source)
    for file in source.glob("*.json"):
        shutil.copyfile(file, folder / file.name)
    _write_json(folder / "config.json", config)


def cast(source: Path, folder: Path) -> None:
    """Write the BF16 copy of a checkpoint into ``folder``, going on with what an earlier run left there.

    Raises:
        BuildError: the checkpoint is not whole or not in block FP8, or the disk is full.
    """
    plan = make_plan(source)
    _take_up(folder, _mark(plan))
    left = [shard for shard in plan.shards if not (folder / shard.name).exists()]
    if len(left) < len(plan.shards):
        console.print(f"[dim]going on: {len(plan.shards) - len(left)} of {len(plan.shards)} shards are there[/dim]")
    with room("cast", folder, sum(shard.size for shard in left)):
        _write_shards(plan, left, folder)
        for file in plan.others:
            shutil.copyfile(file, folder / file.name)
        _write_json(folder / "config.json", plan.config)
        if plan.index is not None:
            _write_json(folder / INDEX, plan.index)
        sync(folder)


def is_cast_of(source: Path, folder: Path) -> bool:
    """Whether a finished folder is the BF16 copy of a checkpoint as it is now."""
    mark = folder / _MARK
    return mark.is_file() and mark.read_text() == _mark(make_plan(source))


def _mark(plan: Plan) -> str:
    files = {file.name: [file.stat().st_size, file.stat().st_mtime_ns] for file in (*plan.weights, *plan.others)}
    return json.dumps({"recipe": RECIPE, "cast_from": files}, indent=2)


def _take_up(folder: Path, mark: str) -> None:
    """Clear what was cast from another checkpoint, or from this one before it changed."""
    path = folder / _MARK
    if path.exists() and path.read_text() == mark:
        return
    for stale in folder.iterdir():
        stale.unlink()
    path.write_text(mark)
    sync(folder)


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_shards(plan: Plan, shards: list[Shard], folder: Path) -> None:
    # The imports take seconds, and there may be nothing to do.
    import torch

    from build.cast_worker import Worker

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # every worker is a thread already
    try:
        with (
            ExitStack() as opened,
            _Meter(sum(shard.size for shard in shards)) as meter,
            ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
            ThreadPoolExecutor(1) as finisher,
        ):
            worker = Worker({file: opened.enter_context(FileIO(file)) for file in plan.weights})
            finishing: list[Future[None]] = []
            for shard in shards:
                target = opened.enter_context(FileIO(folder / f".{shard.name}.unfinished", "w"))
                write_from(target.fileno(), memoryview(shard.header), 0)
                jobs = [pool.submit(job, target.fileno()) for piece in shard.pieces for job in worker.jobs(piece)]
                _await(jobs, meter.advance)
                # The disk syncs one shard while the next is cast, and is never further behind.
                _await(finishing)
                finishing = [finisher.submit(_finish, target, folder / shard.name)]
                meter.say(shard.name)
            _await(finishing)
    finally:
        torch.set_num_threads(threads)


def _await(jobs: list[Future[Any]], done: Callable[[Any], None] = lambda result: None) -> None:
    """Wait for all of them, or for the first that fails."""
    try:
        for job in as_completed(jobs):
            done(job.result())
    except BaseException:
        for job in jobs:
            job.cancel()
        raise


def _finish(target: FileIO, place: Path) -> None:
    os.fsync(target.fileno())
    target.close()
    Path(os.fsdecode(target.name)).rename(place)


class _Meter:
    """Bytes, rate and time left: live in a terminal, elsewhere in a line a shard."""

    def __init__(self, total: int) -> None:
        columns = (TextColumn("cast"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("cast", total=total)
        self._total, self._done, self._begun = total, 0, time.monotonic()

    def __enter__(self) -> "_Meter":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, size: int) -> None:
        """So many more bytes are written."""
        self._done += size
        self._progress.advance(self._task, size)

    def say(self, name: str) -> None:
        """A shard is written."""
        if not console.is_terminal:
            rate = self._done / (time.monotonic() - self._begun)
            left = (self._total - self._done) / rate
            console.print(
                f"  {name}: {decimal(self._done)} of {decimal(self._total)}, {decimal(int(rate))}/s, {left:.0f} s left"
            )
