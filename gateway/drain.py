"""A uvicorn server that a first signal drains and a second one ends."""

import asyncio
from types import FrameType

import uvicorn

from gateway.interrupt import Drain
from gateway.service import Service

LAST_WORDS_S = 1.0  # for the error events of what is cut


async def finish(drain: Drain, drain_s: float) -> None:
    """Let what runs go on for so long; then cut it, and let that be told."""
    await drain.idle(drain_s)
    drain.cut()
    await drain.idle(LAST_WORDS_S)


class DrainingServer(uvicorn.Server):
    """Keeps its port while it drains: what is new is told to come back, what runs may finish."""

    def __init__(self, config: uvicorn.Config, service: Service, drain_s: float) -> None:
        super().__init__(config)
        self._service = service
        self._drain_s = drain_s
        self._draining: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM or SIGINT: the first drains, the second ends at once."""
        if self._service.drain.draining:
            self.should_exit = self.force_exit = True
            return
        self._service.drain.draining = True
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._draining = self._loop.create_task(self._drain())

    async def _drain(self) -> None:
        for backend in self._service.backends.values():
            backend.admission.close()
        await finish(self._service.drain, self._drain_s)
        self.should_exit = True
