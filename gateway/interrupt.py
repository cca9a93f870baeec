"""What ends work early: its client left, or the gateway's time to drain is over."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from starlette.types import Scope
from uvicorn.protocols.http.flow_control import FlowControl

from contract.errors import Unavailable


class ClientLeft(Exception):
    """Nobody waits for this answer any more."""


class Peer:
    """Who is at the other end of a connection, as the answers on it see him, one after the other."""

    def __init__(self, flow: FlowControl) -> None:
        self.flow = flow
        self.left = False
        self.told: Callable[[], object] | None = None  # when he leaves

    def leave(self) -> None:
        """He left."""
        self.left = True
        if self.told:
            self.told()


def peer_of(scope: Scope) -> Peer:
    """The one of a request (gateway/http.py)."""
    peer: Peer = scope["peer"]
    return peer


class Drain:
    """The requests under way, and whether new ones are taken."""

    def __init__(self) -> None:
        self.draining = False
        self._working: set[asyncio.Task[None]] = set()
        self._cut: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    async def idle(self, timeout_s: float) -> None:
        """Wait until nothing is under way, so long at most."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)

    @asynccontextmanager
    async def interruptible(self, peer: Peer) -> AsyncIterator[None]:
        """Run the body until it ends, its client leaves, or :meth:`cut` is called.

        Raises:
            ClientLeft: it did.
            Unavailable: the gateway stops now.
        """
        task = asyncio.current_task()
        assert task is not None
        if peer.left:
            raise ClientLeft
        peer.told = task.cancel
        peer.flow.resume_reading()  # who does not read does not see him leave
        self._working.add(task)
        self._idle.clear()
        try:
            yield
        except asyncio.CancelledError:
            if peer.left:
                task.uncancel()
                raise ClientLeft from None
            if task in self._cut:
                task.uncancel()
                raise Unavailable("the server stopped before the answer was complete", fix="Try again") from None
            raise
        finally:
            self._working.discard(task)
            self._cut.discard(task)
            if not self._working:
                self._idle.set()
            peer.told = None

    def cut(self) -> None:
        """End what is still under way."""
        for task in self._working:
            self._cut.add(task)
            task.cancel()
