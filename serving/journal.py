"""The server's log: kept bounded on disk, and read for the few lines that a user needs."""

import os
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Full, Queue
from types import TracebackType
from typing import Self

from contract.errors import ServeError

MAX_BYTES = 20 * 2**20  # of one file
KEPT = 3  # older files beside the current one
_MOST_WAITING = 10_000  # lines, while the disk stands still
_LAST_WRITE_S = 2.0  # for what waits at the end

# glog's prefix: level, month and day, time, thread, source.
_TRITON = re.compile(r"^(?P<level>[IWEF])\d{4} [\d:.]+ \d+ (?:[\w./-]+:\d+\] )?(?P<text>.*)")
_LOAD_FAILURE = re.compile(r"failed to load '(?P<model>[^']+)' version \d+: (?P<cause>.+)")
_CAUSE = re.compile(r"^(?:Internal|Invalid argument|Not found|Unavailable|Unsupported): (?:\w+Error: )?(?P<text>.+)")
_RAW = re.compile(r"^(\w*(Error|Exception)\b|Signal \(\d+\)|error: |Fatal |terminate called|\*\*\* )")
# Said at every start without a GPU, or at every stop, and of no consequence.
_NOISE = re.compile(
    r"pinned system memory|CUDA memory pool|NVML|DCGM|GPU metrics|No GPU|CUDA driver version|CudaDriverHelper"
    r"|^Signal \(15\)"
)


class RotatingLog:
    """A log file that starts anew at each start and at a size, keeping a few older ones.

    A thread of its own writes it: a disk that is full or stands still costs lines, which are counted, and nothing else.

    Raises:
        ServeError: it cannot be made at all.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, kept: int = KEPT) -> None:
        self._path, self._max_bytes, self._kept = path, max_bytes, kept
        self._waiting: Queue[bytes | None] = Queue(_MOST_WAITING)
        self._lost = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            raise ServeError(f"{path} cannot be written: {error.strerror}", fix="Free or mount its disk") from None
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(Full):
            self._waiting.put(None, timeout=_LAST_WRITE_S)
        self._thread.join(_LAST_WRITE_S)

    def line(self, text: str) -> None:
        """Append one line; never waits and never fails."""
        try:
            self._waiting.put_nowait(text.encode("utf-8", "backslashreplace") + b"\n")
        except Full:
            self._lost += 1

    def note(self, text: str) -> None:
        """Append one line of the supervisor's own."""
        self.line(_stamped(text))

    def _run(self) -> None:
        while (data := self._waiting.get()) is not None:
            try:
                if self._lost:
                    self._write(f"\n{_stamped(f'{self._lost} lines were lost here')}\n".encode())
                    self._lost = 0
                self._write(data)
            except OSError:
                self._lost += 1
        self._file.close()

    def _write(self, data: bytes) -> None:
        if self._file.closed or (self._size and self._size + len(data) > self._max_bytes):
            self._file.close()
            self._open()
        written = self._file.write(data)
        self._size += written
        if written < len(data):  # what a full disk had room for
            raise OSError

    def _open(self) -> None:
        self._rotate()
        self._file = self._path.open("ab", buffering=0)
        self._size = 0

    def _rotate(self) -> None:
        if not self._path.exists():
            return
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, self._kept + 1))]
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            if newer.exists():
                newer.replace(older)


def _stamped(text: str) -> str:
    return f"conch {time.strftime('%Y-%m-%d %H:%M:%S')} {text}"


def matters(line: str) -> bool:
    """True for what a user should see in the terminal: warnings, errors, crashes."""
    if _NOISE.search(line):
        return False
    found = _TRITON.match(line)
    return found["level"] in "WEF" if found else bool(_RAW.match(line))


def plain(line: str) -> str:
    """What a line of the log says: no prefix, and of an escaped traceback only what was raised."""
    found = _TRITON.match(line)
    said = [part for part in (found["text"].strip('"') if found else line).split("\\n") if part.strip()]
    if not said:
        return ""
    return said[-1] if said[0].startswith("Traceback") else said[0]


def load_failure(lines: Iterable[str]) -> str:
    """Why Triton could not load a model, in the stage's own words; '' when the log tells of no such thing."""
    for line in lines:
        found = _LOAD_FAILURE.search(plain(line))
        if found:
            cause = _CAUSE.match(found["cause"])
            return f"{found['model']} did not load: {cause['text'] if cause else found['cause']}"
    return ""


def last_words(lines: Iterable[str], most: int = 5) -> list[str]:
    """The last lines that matter, without Triton's prefix; the last lines of any kind where none does."""
    everything = [line for line in lines if line.strip()]
    chosen = [line for line in everything if matters(line)] or everything
    return [plain(line) for line in chosen[-most:]]


def tail(path: Path, count: int) -> list[str]:
    """The last ``count`` lines of a file; none where there is no file."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        size = file.seek(0, 2)
        block = 0
        data = b""
        while data.count(b"\n") <= count and block < size:
            block = min(size, block + 65536)
            file.seek(size - block)
            data = file.read(block)
    return data.decode("utf-8", "replace").splitlines()[-count:]


def follow(path: Path, interval_s: float = 0.25) -> Iterator[str | None]:
    """The lines added to a file from now on, across rotations; None each time there is nothing new."""
    file = path.open("rb") if path.exists() else None
    if file:
        file.seek(0, 2)
    partial = b""
    while True:
        if file:
            while chunk := file.readline():
                partial += chunk
                if partial.endswith(b"\n"):
                    yield partial.decode("utf-8", "replace").rstrip("\n")
                    partial = b""
        if path.exists() and (file is None or path.stat().st_ino != os.fstat(file.fileno()).st_ino):
            if file:
                file.close()
            file, partial = path.open("rb"), b""
            continue
        yield None
        time.sleep(interval_s)
