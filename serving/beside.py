"""The gateway beside the server, and the filter before it: processes that outlive its restarts, restarted themselves.

Each is started with the server and proved ready before the server first counts as ready; after that it is kept alive
until the end, and no trouble of its own ends the server. The gateway drains together with the server, within the same
deadline; the filter goes last.
"""

import asyncio
import http.client
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from contract import programs
from contract.address import reachable
from contract.spec import Deployment
from serving import process
from serving.journal import RotatingLog
from serving.process import Server
from serving.screen import Screen
from serving.triton import Launch, shm_prefix

_BACKOFF_S = (0.25, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_FORGIVEN_S = 15.0  # of health, for each failure before
_START_S = 60.0  # until it first answers: a busy machine starts it slowly
_LOOK_S = 5.0  # between two looks at whether it answers
_SOON_S = 0.5  # and while it does not
_ASK_S = 10.0  # a late answer is one: in a flood every connection before this one is served first
_SILENT_S = 12.0  # without an answer: a hang
_GUARD_S = 1.0  # between two looks at its guard
_EXIT_S = 5.0  # for the exit itself, once drained
_ERROR_EVENTS_S = 2.0  # what it cuts at the end still gets a word before the server goes


def prefix_beside(name: str, spec: Deployment, root: Path) -> str:
    """What marks the processes of a deployment's gateway, or filter (serving/process.py)."""
    return f"{name}_" + shm_prefix(spec, root).removeprefix("conch_")


@dataclass
class GatewayProcess:
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
    name: ClassVar[str] = "gateway"
    changed: Callable[[str], None] = lambda trouble: None  # told why it does not answer, and '' once it does
    restarts: int = 0
    _server: Server | None = None
    _keeper: asyncio.Task[None] | None = None
    _closing: bool = False
    _recent: deque[str] = field(default_factory=lambda: deque(maxlen=20))

    @property
    def pid(self) -> int:
        """Its process id; 0 between two."""
        return self._server.pid if self._server and self._server.process.returncode is None else 0

    @property
    def wanted(self) -> bool:
        """Whether there is to be one."""
        return self.spec.gateway.enabled

    def open(self) -> None:
        """Start it, and keep it alive."""
        if self.wanted:
            self._keeper = asyncio.create_task(self._keep())

    async def up(self) -> str:
        """'' once it answers, or when there is none; else why it does not."""
        while self._keeper:
            if await asyncio.to_thread(self._answers, 1.0):
                return ""
            if self.restarts:
                return "\n  ".join([f"the {self.name} did not start", *self._recent])
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

    async def _keep(self) -> None:
        """Start it again whenever it ends."""
        failures = 0
        while True:
            self._server = await process.start(self._launch(), prefix_beside(self.name, self.spec, self.root))
            pump = asyncio.create_task(self._pump(self._server))
            guarded = asyncio.create_task(process.keep_guarded(self._server, _GUARD_S))
            try:
                reason, healthy_s = await self._end(self._server)
            finally:
                process.kill(self._server)
                guarded.cancel()
                pump.cancel()
            if self._closing:
                return
            failures = max(0, failures - int(healthy_s / _FORGIVEN_S))
            delay_s = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
            failures += 1
            self.restarts += 1
            self.changed(reason)
            news = f"the {self.name}: {reason}; restart {self.restarts} in {delay_s:g} s"
            self.log.note(news)
            self.screen.say(news, "yellow")
            await asyncio.sleep(delay_s)

    async def _end(self, server: Server) -> tuple[str, float]:
        """Wait for its end, or for a hang; say which, and for how many seconds it had answered."""
        exited = asyncio.create_task(process.exit_reason(server))
        first, last = None, time.monotonic()  # of its answers; it has yet to start
        answers = False
        try:
            while not (await asyncio.wait({exited}, timeout=_LOOK_S if answers else _SOON_S))[0]:
                answers = await asyncio.to_thread(self._answers, _ASK_S)
                now = time.monotonic()
                if answers:
                    last = now
                    if first is None:
                        first = now
                        self.changed("")
                elif now - last > (_START_S if first is None else _SILENT_S):
                    return "it does not answer", 0.0 if first is None else last - first
            reason = exited.result().replace("the server", "it")
            return reason, 0.0 if first is None else time.monotonic() - first
        finally:
            exited.cancel()

    def _launch(self) -> Launch:
        drain_s = str(max(0.0, self.drain_s - _ERROR_EVENTS_S))
        words = (*programs.GATEWAY, str(self.config), "--root", str(self.root), "--drain-s", drain_s)
        return Launch([sys.executable, *words], dict(os.environ))

    async def _pump(self, server: Server) -> None:
        while line := await server.output.readline():
            text = line.decode("utf-8", "replace").rstrip()
            self._recent.append(text)
            self.log.line(f"{self.name} {text}")

    def _answers(self, timeout_s: float) -> bool:
        host, port = reachable(self.spec.gateway.host), self.spec.ports.gateway
        return _status(host, port, "GET", "/health/live", timeout_s) == http.HTTPStatus.OK


@dataclass
class FilterProcess(GatewayProcess):
    """What stands before the wheel's Triton (serving/filter)."""

    name: ClassVar[str] = "filter"
    doors: Path | None = None  # of a Triton that needs one

    @property
    def wanted(self) -> bool:
        """Whether there is to be one."""
        return self.doors is not None

    def _launch(self) -> Launch:
        ports = self.spec.ports
        repository = self.root / "model_repository" / self.spec.name
        listens = ("--host", ports.host, "--http", str(ports.http), "--grpc", str(ports.grpc))
        words = (*programs.FILTER, *listens, "--doors", str(self.doors), "--repository", str(repository))
        return Launch([sys.executable, *words], dict(os.environ))

    def _answers(self, timeout_s: float) -> bool:
        # What it answers itself, whatever Triton does.
        return _status(reachable(self.spec.ports.host), self.spec.ports.http, "OPTIONS", "/", timeout_s) > 0


def _status(host: str, port: int, method: str, path: str, timeout_s: float) -> int:
    """The status of one HTTP request; 0 where no answer comes."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request(method, path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
