"""The way back from postprocess to the engine: "stop this request", and "I am so far behind".

Triton's ensembles have none: a cancelled request is seen only by the step that comes next
(docs/python_backend.md), and what waits for a step is seen by nobody. So postprocess, which sees both, sends a
datagram on a Unix socket: a request's key, or how long a delta was under way. A lost one is harmless: the
next delta of that stream, or of any, sends it again.
"""

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from contract.stage import ABORT

_LAG = struct.Struct("<f")  # seconds


class AbortListener:
    """The engine's end: calls ``abort(key)`` and ``lagged(seconds)`` from a thread of its own."""

    def __init__(self, path: Path, abort: Callable[[int], None], lagged: Callable[[float], None]) -> None:
        self._path = path
        self._abort = abort
        self._lagged = lagged
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with _address(path) as address:
            self._socket.bind(address)
        path.chmod(0o600)
        self._thread = threading.Thread(target=self._run, name="aborts", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            datagram = self._socket.recv(ABORT.size)
            match len(datagram):
                case ABORT.size:
                    self._abort(ABORT.unpack(datagram)[0])
                case _LAG.size:
                    self._lagged(_LAG.unpack(datagram)[0])
                case _:
                    return

    def close(self) -> None:
        """Stop listening and remove the socket."""
        with contextlib.suppress(OSError), _address(self._path) as address:
            self._socket.sendto(b"", address)
        self._thread.join(timeout=5)
        self._socket.close()
        self._path.unlink(missing_ok=True)


class AbortSender:
    """Postprocess's end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0.1)

    def send(self, key: int) -> None:
        """Ask the engine to stop; silence if it is not there: then there is nothing to stop."""
        self._send(ABORT.pack(key))

    def lag(self, seconds: float) -> None:
        """Tell how long a delta was under way."""
        self._send(_LAG.pack(seconds))

    def _send(self, datagram: bytes) -> None:
        with contextlib.suppress(OSError), _address(self._path) as address:
            self._socket.sendto(datagram, address)

    def close(self) -> None:
        """Release the socket."""
        self._socket.close()


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """The path as a socket address of any length: the kernel takes 107 bytes, so go through its folder."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
