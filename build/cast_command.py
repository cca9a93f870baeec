"""``python -m build.cast_command IN OUT`` (make cast): the BF16 copy of a block-FP8 checkpoint, in a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from build.interrupt import exit_on_interrupt

Source = Annotated[Path, typer.Argument(help="a checkpoint's folder, in FP8 with blocks of 128 × 128")]
Target = Annotated[Path, typer.Argument(help="the folder to be made")]


def main(source: Source, target: Target) -> None:
    """Cast a block-FP8 checkpoint to BF16; run it again after an interruption and it goes on."""
    exit_on_interrupt()
    from build.steps import told  # the imports take a second, and Ctrl-C may come then

    with told(target):
        publish(source, target)


def publish(source: Path, target: Path) -> None:
    """Make ``target`` the BF16 copy of ``source``; it is not there before it is whole.

    Raises:
        BuildError: it cannot be made, or something else is there.
    """
    from build.cast import cast, is_cast_of
    from build.steps import console, near
    from contract.errors import BuildError

    source, target = source.absolute(), target.absolute()
    if not source.is_dir():
        raise BuildError(f"IN {source} is no folder", fix="Name the checkpoint's folder")
    if target.exists():
        if not is_cast_of(source, target):
            raise BuildError(
                f"OUT {target} is there already, and is no BF16 copy of {source} as it is now",
                fix="Remove it, or name another",
            )
        console.print(f"[green]✓[/green] {near(target)} is there already")
        return
    partial = target.with_name(f".{target.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    with _alone(partial):
        cast(source, partial)
        partial.rename(target)
    console.print(f"[green]✓[/green] {near(target)}")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    from contract.errors import BuildError

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BuildError(f"another cast is at work in {folder}", fix="Wait until it has finished") from None
        yield
    finally:
        os.close(descriptor)
        with suppress(OSError):
            folder.rmdir()  # of a cast that was refused; what one has begun stays


if __name__ == "__main__":
    typer.run(main)
