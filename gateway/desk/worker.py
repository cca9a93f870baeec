"""A worker: answers requests on the sockets that the desk opened, for as long as the desk lives and wants."""

import asyncio
import os
import socket
from collections.abc import Coroutine
from dataclasses import dataclass
from types import FrameType

import uvicorn

from gateway.desk.reach import Desk
from gateway.desk.wire import Idle, Turned
from gateway.drain import finish
from gateway.replicas import Replicas
from gateway.service import Service

_BEAT_S = 1.0


@dataclass(frozen=True)
class Place:
    """What the desk tells a worker on its command line."""

    number: int
    desk: int  # the file descriptor of its connection to the desk
    listeners: tuple[int, ...]  # those of the sockets that all workers accept from

    def __str__(self) -> str:
        return ":".join(map(str, (self.number, self.desk, *self.listeners)))

    @staticmethod
    def of(text: str) -> "Place":
        """The inverse of str."""
        number, desk, *listeners = map(int, text.split(":"))
        return Place(number, desk, tuple(listeners))


class WorkerServer(uvicorn.Server):
    """Ends when the desk says so: signals that a terminal or systemd sends to all processes are the desk's business."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM or SIGINT."""


class Worker:
    """This process' part of the desk's work."""

    def __init__(self, drain_s: float) -> None:
        self.desk = Desk(self._turn, self._drain, self._end, lambda: os._exit(1))
        self._drain_s = drain_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._service: Service | None = None
        self._server: uvicorn.Server | None = None

    async def serve(self, config: uvicorn.Config, service: Service, place: Place) -> None:
        """Answer until the desk has said End."""
        self._service, self._server = service, WorkerServer(config)
        end = socket.socket(fileno=place.desk)
        await asyncio.get_running_loop().create_unix_connection(lambda: self.desk.line, sock=end)
        beat = asyncio.create_task(self._beat())
        try:
            await self._server.serve([socket.socket(fileno=each) for each in place.listeners])
        finally:
            beat.cancel()

    def _turn(self, turned: Turned) -> None:
        assert self._service is not None
        client = self._service.backends[turned.model].client
        assert isinstance(client, Replicas)
        for replica in client.members:
            if replica.address == turned.address:
                self._start(replica.turn(turned.live))

    def _drain(self) -> None:
        assert self._service is not None
        self._service.drain.draining = True
        self._start(self._finish(self._service))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(self, service: Service) -> None:
        await finish(service.drain, self._drain_s)
        self.desk.line.say(Idle())

    def _end(self) -> None:
        assert self._server is not None
        self._server.should_exit = True

    async def _beat(self) -> None:
        while True:
            await asyncio.gather(self.desk.beat(), asyncio.sleep(_BEAT_S))
