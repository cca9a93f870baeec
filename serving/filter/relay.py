"""A client's connection and Triton's behind it: who does not read is not read from, and nothing waits for ever."""

import asyncio
import time
from typing import ClassVar

MIB = 2**20
MOST_BYTES = 8 * MIB  # of one message or body; unpacked, where it comes compressed
MOST_HEAD_BYTES = 16 * 1024
MOST_HELD_BYTES = 256 * MIB  # of all that is unfinished, over all connections
MOST_CONNECTIONS = 4096
PATIENCE_S = 60.0  # for the rest of what has begun, and for a client to take some of its answer


class Relay(asyncio.Protocol):
    """The client's side.

    Args:
        door: the socket on which Triton listens.
    """

    all: ClassVar[set["Relay"]] = set()
    held: ClassVar[int] = 0  # bytes of all
    began: float | None = None  # when what is unfinished did

    def __init__(self, door: str) -> None:
        self.door = door
        self.server: asyncio.Transport | None = None
        self.full = False  # the client does not read its answer
        self._halts = 0  # reasons not to read what it sends
        self._held = self._unsent = 0
        self._moved = time.monotonic()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected."""
        self.transport = transport
        self.began = time.monotonic()
        Relay.all.add(self)
        if len(Relay.all) > MOST_CONNECTIONS:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It left: so does what it asked for."""
        Relay.all.discard(self)
        self.hold(0)
        server, self.server = self.server, None
        if server:
            server.abort()

    def pause_writing(self) -> None:
        """The client does not read."""
        self.full = True
        if self.server and not self.server.is_closing():
            self.server.pause_reading()

    def resume_writing(self) -> None:
        """It does again."""
        self.full = False
        if self.server and not self.server.is_closing():
            self.server.resume_reading()

    def halt(self) -> None:
        """Read no more of what the client sends, until :meth:`proceed` was called as often."""
        self._halts += 1
        if self._halts == 1 and not self.transport.is_closing():
            self.transport.pause_reading()

    def proceed(self) -> None:
        """Take one :meth:`halt` back."""
        self._halts -= 1
        if not self._halts and not self.transport.is_closing():
            self.transport.resume_reading()

    def hold(self, size: int) -> bool:
        """Say how much is held for this client now; False where that is too much for all of them."""
        Relay.held += size - self._held
        self._held = size
        return Relay.held <= MOST_HELD_BYTES

    def overdue(self, now: float) -> bool:
        """Whether its time is over; to be asked every few seconds."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._moved = unsent, now
        return now - min(self._moved, now if self.began is None else self.began) > PATIENCE_S

    def answered(self, data: bytes) -> None:
        """Bytes of Triton's came."""
        raise NotImplementedError

    def hung_up(self) -> None:
        """Triton closed its side before its answer was whole."""
        raise NotImplementedError


class Answers(asyncio.Protocol):
    """Triton's side."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Triton took the connection."""
        self._relay.server = self._transport = transport
        if self._relay.full:
            transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Triton answers."""
        self._relay.answered(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """It hung up, or died."""
        if self._relay.server is self._transport:
            self._relay.server = None
            self._relay.hung_up()

    def pause_writing(self) -> None:
        """Triton does not read."""
        self._relay.halt()

    def resume_writing(self) -> None:
        """It does again."""
        self._relay.proceed()
