"""What ends work early: its client left, or the gateway's time to drain is over."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.types import Receive

from contract.errors import Unavailable


class ClientLeft(Exception):
    """Nobody waits for this answer any more."""


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
    async def interruptible(self, receive: Receive) -> AsyncIterator[None]:
        """Run the body until it ends, its client leaves, or :meth:`cut` is called.

        The request's body must have been read: what ``receive`` says next is that the client left.

        Raises:
            ClientLeft: it did.
            Unavailable: the gateway stops now.
        """
        task = asyncio.current_task()
        assert task is not None
        left = False

        async def watch() -> None:
            nonlocal left
            while (await receive())["type"] != "http.disconnect":
                pass
            left = True
            task.cancel()

        watcher = asyncio.create_task(watch())
        self._working.add(task)
        self._idle.clear()
        try:
            yield
        except asyncio.CancelledError:
            if left:
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
            watcher.cancel()

    def cut(self) -> None:
        """End what is still under way."""
        for task in self._working:
            self._cut.add(task)
            task.cancel()
