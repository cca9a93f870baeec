"""What every hub is asked for, and what it answers: one module of this folder a hub answers it."""

import hashlib
import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast

from contract.errors import BuildError
from contract.sections import HubKind

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_DIGEST = {"sha256": re.compile(r"[0-9a-f]{64}"), "git-sha1": re.compile(r"[0-9a-f]{40}")}
COMMIT = re.compile(r"[0-9a-f]{40}")
_BLOCK = 1 << 20


@dataclass(frozen=True)
class RemoteFile:
    """A file as its hub lists it."""

    name: str  # its path in the repository
    size: int
    algorithm: Literal["sha256", "git-sha1"]  # git-sha1: of a git blob, which is the content after a header
    digest: str

    def __post_init__(self) -> None:
        if not _DIGEST[self.algorithm].fullmatch(self.digest):  # it may become a file's name
            raise BuildError(f"the hub lists {self.name} with {self.algorithm} {self.digest!r}, which is none")

    def digest_of(self, path: Path, alive: Callable[[], None] = lambda: None) -> str:
        """What the file's digest would be with the content of ``path``.

        Args:
            alive: called between the blocks; an exception of it ends the work.
        """
        state = hashlib.sha256() if self.algorithm == "sha256" else hashlib.sha1(usedforsecurity=False)
        if self.algorithm == "git-sha1":
            state.update(f"blob {path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                alive()
                state.update(block)
        return state.hexdigest()


@dataclass(frozen=True)
class Snapshot:
    """A repository at one commit."""

    repo: str
    revision: str  # as it was asked for
    commit: str
    files: tuple[RemoteFile, ...]

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"


@dataclass(frozen=True)
class Body:
    """What a hub sends of a file."""

    start: int  # of the file: a hub that ignores Range starts at 0
    length: int | None  # of the whole file, as the response says it
    chunks: Iterator[bytes]  # raises Hiccup where the connection ends early


class Hiccup(Exception):
    """What may pass by itself: a lost connection, a busy hub."""

    def __init__(self, message: str, *, wait_s: float | None = None, fix: str = "") -> None:
        self.wait_s = wait_s  # as the hub asks for
        self.fix = fix  # where waiting does not help
        super().__init__(message)


class Hub(Protocol):
    """A module that speaks to one hub through that hub's own library.

    Its calls raise BuildError for what another try cannot change, and Hiccup for what it may.
    """

    TITLE: str
    ENDPOINT: str  # the variable that names a mirror
    TOKEN: str  # the variable that holds a token
    CACHE: str  # the variable that names another place for the files

    def find(self, repo: str, revision: str) -> Snapshot:
        """The repository's files at a branch, tag or commit."""

    def receive(self, snapshot: Snapshot, file: RemoteFile, offset: int) -> AbstractContextManager[Body]:
        """A file's bytes from ``offset`` on, or from its start."""

    def home(self, repo: str) -> Path:
        """The folder of a repository in the cache that the hub's library has too."""

    def place(self, snapshot: Snapshot, file: RemoteFile) -> Path:
        """Where the file's bytes belong in the cache."""

    def finish(self, snapshot: Snapshot, files: Iterable[RemoteFile]) -> Path:
        """The snapshot's folder, now that these files are in their places."""


def hub_of(kind: HubKind) -> Hub:
    """A hub's module; only that one is imported.

    Raises:
        BuildError: the hub's own library is too old, as in TensorRT-LLM's image, whose transformers wants it so.
    """
    try:
        return cast(Hub, importlib.import_module(f"build.hub.{kind}"))
    except ImportError as error:
        raise BuildError(
            f"source.kind: {kind} needs a newer library of the hub than is here ({error})",
            fix="Run make fetch where the project has its own environment, and name its folder with source.kind: path",
        ) from None


def body_of(status: int, headers: Mapping[str, str], chunks: Iterator[bytes]) -> Body:
    """The body of a 200 or 206 response."""
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if status == 206:
        if not found:
            raise Hiccup(f"the hub answered with a part, and with Content-Range {headers.get('Content-Range')!r}")
        return Body(int(found[1]), int(found[2]), chunks)
    length = headers.get("Content-Length", "")
    return Body(0, int(length) if length.isdigit() else None, chunks)


def seconds(text: str | None) -> float | None:
    """A Retry-After header; a date in one is left to our own patience."""
    return float(text) if text and text.isdigit() else None
