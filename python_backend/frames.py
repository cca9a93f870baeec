"""Messages between an engine's worker and its stage: each after its length, and all that came is read at once.

Read one by one, every message would cost its reader Python's interpreter lock twice; and where the engine holds it for
the whole of a step, requests that come together would not meet in the same step.
"""

import socket
import struct
import threading
from collections.abc import Iterator

_LENGTH = struct.Struct("!I")
_READ = 1 << 20  # bytes, at most, of one read


class Frames:
    """One end of a socket. Any thread may send; one reads."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._sending = threading.Lock()

    def send(self, message: bytes) -> None:
        """Send a message whole.

        Raises:
            OSError: the other end is gone.
        """
        with self._sending:
            self._socket.sendall(_LENGTH.pack(len(message)) + message)

    def __iter__(self) -> Iterator[bytes]:
        """The other end's messages, until it is gone. What it had not sent whole is dropped."""
        unread = bytearray()
        while came := self._read():
            unread += came
            at = 0
            while at + _LENGTH.size <= len(unread):
                ends = at + _LENGTH.size + _LENGTH.unpack_from(unread, at)[0]
                if ends > len(unread):
                    break
                yield bytes(unread[at + _LENGTH.size : ends])
                at = ends
            del unread[:at]

    def _read(self) -> bytes:
        try:
            return self._socket.recv(_READ)
        except OSError:
            return b""
