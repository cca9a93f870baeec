"""The root of a container: an image's files, with places in between for what is mounted into it.

bubblewrap cannot make a place in a folder that it shows read-only. So a folder that lacks one is made anew, in
memory, and what the image has in it is shown there piece by piece.
"""

from collections.abc import Iterator, Set
from pathlib import Path, PurePosixPath

from tests.images.replicas import Replica


def root_of(image: Replica, targets: Set[str]) -> list[str]:
    """bubblewrap's words for the image.

    Args:
        targets: paths at which something is mounted later.
    """
    shown = {PurePosixPath(target): source for source, target in image.binds}
    places = {PurePosixPath(target) for target in targets}
    lacking = [target for target in places if not _there(image.root, target, shown)]
    lacking += [
        target
        for target in shown
        if not _there(image.root, target, {at: it for at, it in shown.items() if at != target})
    ]
    open_ = {parent for target in lacking for parent in target.parents}
    return list(_folder(image.root, PurePosixPath("/"), open_, places, shown))


def _folder(
    root: Path,
    folder: PurePosixPath,
    open_: Set[PurePosixPath],
    places: Set[PurePosixPath],
    shown: dict[PurePosixPath, Path],
) -> Iterator[str]:
    """The words for what is in a folder that is made anew."""
    there = _at(root, folder, shown)
    names = {entry.name for entry in there.iterdir()} if there and there.is_dir() else set()
    names |= {path.name for path in (*open_, *shown) if path.parent == folder and path != folder}
    for name in sorted(names):
        path = folder / name
        source = _at(root, path, shown)
        if path in open_:
            mode = source.stat().st_mode & 0o7777 if source and source.exists() else 0o755
            yield from ("--perms", f"{mode:o}", "--dir", str(path))
            yield from _folder(root, path, open_, places, shown)
        elif source and source.is_symlink():
            yield from ("--symlink", str(source.readlink()), str(path))
        elif source and path not in places:
            yield from ("--ro-bind", str(source), str(path))
            below = {target: bind for target, bind in shown.items() if path in target.parents}
            for target, bind in below.items():
                yield from ("--ro-bind", str(bind), str(target))


def _at(root: Path, path: PurePosixPath, shown: dict[PurePosixPath, Path]) -> Path | None:
    """The host's file that is shown at a path."""
    for parent in (path, *path.parents):
        if parent in shown:
            return shown[parent] / path.relative_to(parent)
    found = root / path.relative_to("/")
    return found if found.exists() or found.is_symlink() else None


def _there(root: Path, path: PurePosixPath, shown: dict[PurePosixPath, Path]) -> bool:
    found = _at(root, path, shown)
    return found is not None and found.exists()
