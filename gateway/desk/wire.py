"""What a worker and its desk say to each other: JSON, a line a message, over a pair of sockets."""

import asyncio
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

import msgspec

from gateway.journey import Journey
from gateway.standing import Standing

Heard = TypeVar("Heard")
What = Literal["alive", "page", "verdicts"]


class Admit(msgspec.Struct, tag=True, array_like=True):
    """A request wants to start."""

    number: int
    model: str
    key: str
    requests: int
    tokens: int
    deadline: float | None  # on time.monotonic(), which is one clock for all processes of a machine


class Spoke(msgspec.Struct, tag=True, array_like=True):
    """A request has its first token, as :meth:`gateway.admission.Admission.first_token`."""

    number: int


class Left(msgspec.Struct, tag=True, array_like=True):
    """A request gives back what it holds, or waits no longer."""

    number: int
    used: int | None  # as :meth:`gateway.admission.Admission.release`


class Ended(msgspec.Struct, tag=True, array_like=True):
    """A request has ended."""

    journey: Journey
    now: float


class Ask(msgspec.Struct, tag=True, array_like=True):
    """A question; a worker asks one each second."""

    number: int
    what: What


class Idle(msgspec.Struct, tag=True, array_like=True):
    """All that ran when the desk said Drain has ended."""


class Granted(msgspec.Struct, tag=True, array_like=True):
    """A request may start."""

    number: int
    standing: Standing | None


class Refused(msgspec.Struct, tag=True, array_like=True):
    """A request may not."""

    number: int
    line: str  # as Triton would carry it (contract/errors.py)
    retry_after_s: float | None  # of :class:`gateway.standing.ComeBack`, as the next two
    standing: Standing | None
    spent: bool


class Told(msgspec.Struct, tag=True, array_like=True):
    """The answer to a question: a page, or JSON."""

    number: int
    text: str


class Turned(msgspec.Struct, tag=True, array_like=True):
    """One of a deployment's servers came or went."""

    model: str
    address: str
    live: bool


class Drain(msgspec.Struct, tag=True, array_like=True):
    """Take nothing new, finish what runs, say Idle, and wait for End."""


class End(msgspec.Struct, tag=True, array_like=True):
    """Exit."""


FromWorker = Admit | Spoke | Left | Ended | Ask | Idle
FromDesk = Granted | Refused | Told | Turned | Drain | End

_encode = msgspec.json.Encoder().encode


class Line(asyncio.Protocol, Generic[Heard]):
    """One end of their connection. The event loop writes what is said within one of its turns at once.

    Args:
        kind: what the other end may say.
        hear: is given each message.
        lost: is called when the other end is gone.
    """

    def __init__(self, kind: Any, hear: Callable[[Heard], None], lost: Callable[[], None]) -> None:
        self._decode: Callable[[bytes], Heard] = msgspec.json.Decoder(kind).decode
        self._hear = hear
        self._lost = lost
        self._rest = b""
        self._transport: asyncio.WriteTransport | None = None
        self._early: list[bytes] = []

    def say(self, message: msgspec.Struct) -> None:
        """Send a message; to who is gone, nothing."""
        data = _encode(message) + b"\n"
        if self._transport is None:
            self._early.append(data)
        else:
            self._transport.write(data)

    def connection_made(self, transport: asyncio.WriteTransport) -> None:  # type: ignore[override]
        """Of asyncio."""
        self._transport = transport
        transport.writelines(self._early)

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._hear(self._decode(line))

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio."""
        self._lost()
