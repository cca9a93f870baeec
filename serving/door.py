"""The gateway beside the server: a process that outlives the server's restarts, and is restarted itself.

It is started with the server and proved ready before the server counts as ready; after that it is kept
alive until the end. It drains together with the server, within the same deadline.
"""

import asyncio
import http.client
import os
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from contract.address import reachable
from contract.spec import Deployment
from serving import process
from serving.journal import RotatingLog
from serving.process import Server
from serving.screen import Screen
from serving.triton import Launch, shm_prefix

_BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_LOOK_S = 5.0  # between two looks at whether it answers, and for how long it may not
_EXIT_S = 5.0  # for the exit itself, once drained
_ERROR_EVENTS_S = 2.0  # what it cuts at the end still gets a word before the server goes


@dataclass
class Door:
    """The gateway of one supervised server.

    Args:
        config: the spec's file.
        drain_s: how long the server's own draining may take.
    """

    spec: Deployment
    root: Path
    config: Path
    screen: Screen
    log: RotatingLog
    drain_s: float
    restarts: int = 0
    _server: Server | None = None
    _keeper: asyncio.Task[None] | None = None
    _closing: bool = False
    _recent: deque[str] = field(default_factory=lambda: deque(maxlen=20))

    @property
    def pid(self) -> int:
        """Its process id; 0 between two."""
        return self._server.pid if self._server and self._server.process.returncode is None else 0

    def open(self) -> None:
        """Start it, and keep it alive."""
        if self.spec.gateway.enabled:
            process.sweep(self._prefix)
            self._keeper = asyncio.create_task(self._keep())

    async def up(self) -> str:
        """'' once it answers, or when there is none; else why it does not."""
        while self._keeper:
            if await asyncio.to_thread(self._answers, 1.0):
                return ""
            if self.restarts:
                return "\n  ".join(["the gateway did not start", *self._recent])
            await asyncio.sleep(0.05)
        return ""

    async def close(self, *, drain: bool = True) -> None:
        """Let it finish what runs, and end it; at once without ``drain``."""
        self._closing = True
        server = self._server
        if server and drain:
            with suppress(ProcessLookupError):
                server.process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.exit_code(server), self.drain_s + _EXIT_S)
        if self._keeper:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None

    @property
    def _prefix(self) -> str:
        return "door_" + shm_prefix(self.spec, self.root).removeprefix("conch_")

    async def _keep(self) -> None:
        """Start it again whenever it ends."""
        while True:
            self._server = await process.start(self._launch(), self._prefix)
            pump = asyncio.create_task(self._pump(self._server))
            try:
                reason = await self._end(self._server)
            finally:
                process.kill(self._server)
                pump.cancel()
            if self._closing:
                return
            delay_s = _BACKOFF_S[min(self.restarts, len(_BACKOFF_S) - 1)]
            self.restarts += 1
            news = f"the gateway: {reason}; restart {self.restarts} in {delay_s:g} s"
            self.log.note(news)
            self.screen.say(news, "yellow")
            await asyncio.sleep(delay_s)

    async def _end(self, server: Server) -> str:
        """Wait for its end, or for a hang."""
        exited = asyncio.create_task(process.exit_reason(server))
        silent = -1  # it has yet to start
        try:
            while not (await asyncio.wait({exited}, timeout=_LOOK_S))[0]:
                silent = 0 if await asyncio.to_thread(self._answers, _LOOK_S) else silent + 1
                if silent == 2:
                    return "it does not answer"
            return exited.result().replace("the server", "it")
        finally:
            exited.cancel()

    def _launch(self) -> Launch:
        drain_s = str(max(0.0, self.drain_s - _ERROR_EVENTS_S))
        words = ("-m", "gateway", str(self.config), "--root", str(self.root), "--drain-s", drain_s)
        return Launch([sys.executable, *words], dict(os.environ))

    async def _pump(self, server: Server) -> None:
        while line := await server.output.readline():
            text = line.decode("utf-8", "replace").rstrip()
            self._recent.append(text)
            self.log.line(f"gateway {text}")

    def _answers(self, timeout_s: float) -> bool:
        host, port = reachable(self.spec.gateway.host), self.spec.ports.gateway
        connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
        try:
            connection.request("GET", "/health/live")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
