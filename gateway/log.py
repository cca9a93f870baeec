"""The gateway's log: one line a record, written by a thread, so that a reader who takes nothing holds no request up."""

import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue

_MOST_WAITING = 10_000  # lines
_LAST_WRITE_S = 1.0  # for what waits at the end
_TOGETHER_S = 0.02  # lines of so long are one write
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class OneLine(logging.Formatter):
    """A record's message on one line, whatever it quotes; a traceback of ours follows as it is."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line."""
        return _CONTROL.sub(lambda found: repr(found[0])[1:-1], super().formatMessage(record))


class Unblocking(logging.Handler):
    """Writes to a file descriptor from a thread; what finds no room there is dropped and counted."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._waiting: SimpleQueue[bytes | None] = SimpleQueue()
        self._closing = threading.Event()
        self._lost = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line."""
        if self._waiting.qsize() < _MOST_WAITING:
            self._waiting.put(self.format(record).encode("utf-8", "backslashreplace") + b"\n")
        else:
            self._lost += 1

    def close(self) -> None:
        """Write what waits, for a moment."""
        self._closing.set()
        self._waiting.put(None)
        self._thread.join(_LAST_WRITE_S)
        super().close()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            self._closing.wait(_TOGETHER_S)
            lines = [first, *self._further()]
            lost, self._lost = self._lost, 0
            if lost:
                lines.insert(0, b"%d lines were lost here\n" % lost)
            data = b"".join(lines)
            with suppress(OSError):
                while data:
                    data = data[os.write(self._descriptor, data) :]

    def _further(self) -> Iterator[bytes]:
        """What else waits; of the end, what was put before it."""
        with suppress(Empty):
            while (line := self._waiting.get_nowait()) is not None:
                yield line
            self._waiting.put(None)


def log_to(descriptor: int) -> None:
    """Send every record from INFO on there."""
    handler = Unblocking(descriptor)
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO)
