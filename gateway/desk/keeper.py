"""The desk: starts the workers, starts them again, and ends them as one.

It binds the port, and the workers accept from one and the same socket: who has nothing to do accepts first, one that
hangs accepts nothing, and what waits in its queue survives any of them.
"""

import asyncio
import logging
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from subprocess import DEVNULL, Popen

from contract.errors import ServeError
from gateway.desk.seat import Seat
from gateway.desk.wire import Drain, End, Turned
from gateway.desk.worker import Place
from gateway.drain import LAST_WORDS_S
from gateway.replicas import Replica, Replicas
from gateway.service import Service

log = logging.getLogger("gateway")

_BACKOFF_S = (0.25, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_FORGIVEN_S = 15.0  # of life, for each failure before
_LOOK_S = 1.0
_SOON_S = 0.02
_SILENT = 12  # looks without a word: a hang
_STARTING = 60  # looks, until its first word: a busy machine starts it slowly
_LATE_S = 3.0  # beyond what draining, or exiting, may take


@dataclass(frozen=True)
class _Worker:
    """One that runs."""

    seat: Seat
    process: Popen[bytes]  # not asyncio's: uvloop forks, of which gRPC's threads complain
    began: float  # on time.monotonic()

    async def end(self) -> str:
        """Wait for its end, or for a hang; say which."""
        silent = 0
        while not self.seat.gone.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self.seat.gone.wait(), _LOOK_S)
            silent = 0 if self.seat.heard else silent + 1
            self.seat.heard = False
            if silent > (_SILENT if self.seat.begun else _STARTING):
                await self.kill()
                return "did not answer"
        code = await self.exit_code()
        return f"exited with code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"

    async def exit_code(self) -> int:
        """Wait for its end."""
        while (code := self.process.poll()) is None:  # noqa: ASYNC110
            await asyncio.sleep(_SOON_S)
        return code

    async def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        await self.exit_code()


class Keeper:
    """The workers of one gateway.

    Args:
        service: the desk's own, which all of them use.
        drain_s: how long what is in flight may go on after the first signal.
    """

    def __init__(self, service: Service, drain_s: float) -> None:
        self._service = service
        self._drain_s = drain_s
        self._workers: dict[int, _Worker] = {}
        self._asked_to_stop = asyncio.Event()
        self._asked_again = asyncio.Event()

        for backend in service.backends.values():
            if isinstance(backend.client, Replicas):
                backend.client.changed = partial(self._turn, backend.name)

    async def serve(self, host: str, port: int) -> None:
        """Keep them alive until a signal, and drain them; a second one ends at once.

        Raises:
            ServeError: the port cannot be had.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        try:
            door = await loop.create_server(asyncio.Protocol, host, port, start_serving=False)
        except OSError as error:
            raise ServeError(str(error)) from None
        async with door:
            keepers = [
                asyncio.create_task(self._keep(number, door.sockets))
                for number in range(1, self._service.processes + 1)
            ]
            try:
                await self._asked_to_stop.wait()
                draining = asyncio.create_task(self._drain())
                again = asyncio.create_task(self._asked_again.wait())
                await asyncio.wait({draining, again}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for worker in list(self._workers.values()):
                    await worker.kill()
                for each in keepers:
                    each.cancel()
                await asyncio.gather(*keepers, return_exceptions=True)

    def _stop(self) -> None:
        if self._asked_to_stop.is_set():
            self._asked_again.set()
        self._asked_to_stop.set()

    async def _keep(self, number: int, listeners: tuple[socket.socket, ...]) -> None:
        """Start a worker again whenever it ends."""
        failures = 0
        while not self._asked_to_stop.is_set():
            worker = self._workers[number] = await self._start(number, listeners)
            try:
                reason = await worker.end()
            finally:
                del self._workers[number]
            if self._asked_to_stop.is_set():
                return
            healthy_s = time.monotonic() - worker.began if worker.seat.begun else 0.0
            failures = max(0, failures - int(healthy_s / _FORGIVEN_S))
            delay_s = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
            failures += 1
            log.error("worker %d %s; another one in %g s", number, reason, delay_s)
            await asyncio.sleep(delay_s)

    async def _start(self, number: int, listeners: tuple[socket.socket, ...]) -> _Worker:
        ours, theirs = socket.socketpair()
        place = Place(number, theirs.fileno(), tuple(each.fileno() for each in listeners))
        seat = Seat(self._service)
        with theirs:
            process = _started(place)
        await asyncio.get_running_loop().create_unix_connection(lambda: seat.line, sock=ours)
        for backend in self._service.backends.values():
            for replica in backend.client.members if isinstance(backend.client, Replicas) else ():
                seat.line.say(Turned(backend.name, replica.address, replica.live))
        return _Worker(seat, process, time.monotonic())

    def _turn(self, model: str, replica: Replica) -> None:
        """Tell all workers of a server that came or went."""
        for worker in self._workers.values():
            worker.seat.line.say(Turned(model, replica.address, replica.live))

    async def _drain(self) -> None:
        """Let every worker finish what runs, then end them all: until then they say that the gateway is stopping."""
        workers = list(self._workers.values())
        for worker in workers:
            worker.seat.line.say(Drain())
        for backend in self._service.backends.values():
            backend.admission.close()
        idle = [asyncio.create_task(worker.seat.idle.wait()) for worker in workers]
        if idle:
            await asyncio.wait(idle, timeout=self._drain_s + LAST_WORDS_S + _LATE_S)
        for worker in workers:
            worker.seat.line.say(End())
        with suppress(TimeoutError):
            async with asyncio.timeout(_LATE_S):
                await asyncio.gather(*(worker.exit_code() for worker in workers))


def _started(place: Place) -> Popen[bytes]:
    """Another process of this program."""
    words = (sys.executable, *sys.orig_argv[1:], "--worker", str(place))
    return Popen(words, stdin=DEVNULL, pass_fds=(place.desk, *place.listeners))
