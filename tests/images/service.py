"""A container's life, as docker leads it: start, health check, restart after a back-off, stop with a grace."""

import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.images.container import Container, ContainerError, Running

Status = Literal["created", "running", "restarting", "exited"]
Health = Literal["none", "starting", "healthy", "unhealthy"]

_FIRST_BACK_OFF_S, _LONGEST_BACK_OFF_S, _STEADY_S = 0.1, 60.0, 10.0
_START_INTERVAL_S = 5.0  # between checks while the start period lasts


@dataclass(frozen=True)
class Check:
    """A health check."""

    command: tuple[str, ...]
    interval_s: float = 30
    timeout_s: float = 30
    start_s: float = 0  # failures count from then on
    retries: int = 3


@dataclass(frozen=True)
class Service:
    """A container, and how it is kept."""

    name: str
    container: Container
    health: Check | None = None
    restart: str = "no"  # or always, unless-stopped, on-failure, on-failure:N
    stop_s: float = 10
    after: dict[str, str] = field(default_factory=dict)  # service -> condition


class Life:
    """One service from its start on.

    Args:
        log: takes what each of its containers says, one after the other.
        changed: called after every change of its state.
    """

    def __init__(self, service: Service, log: Path, changed: Callable[[], None] = lambda: None) -> None:
        self.service = service
        self.status: Status = "created"
        self.health: Health = "none"
        self.exit_code: int | None = None
        self.restarts = 0
        self.error = ""  # why docker would not have started it
        self._log = log
        self._changed = changed
        self._running: Running | None = None
        self._stopping = threading.Event()
        self._ended = threading.Event()
        # The kernel ends a container with the thread that started it, so one thread has it for life.
        self._thread = threading.Thread(target=self._live, name=service.name, daemon=True)

    def start(self) -> None:
        """Start it; it is running, or has failed to, when this returns."""
        up = threading.Event()
        self._up = up
        self._thread.start()
        up.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when its grace is over."""
        self._stopping.set()
        if running := self._running:
            running.signal(signal.SIGTERM)
        if not self._ended.wait(self.service.stop_s) and (running := self._running):
            running.kill()
        self._thread.join()

    def kill(self) -> None:
        """SIGKILL to all that runs in it, as of the kernel's when memory ends: docker sees it end, and acts."""
        if running := self._running:
            running.kill()

    def execute(self, words: tuple[str, ...], timeout_s: float) -> subprocess.CompletedProcess[str]:
        """A command in its container.

        Raises:
            ContainerError: it does not run.
        """
        if not (running := self._running):
            raise ContainerError(f"container {self.service.name} is not running")
        return running.execute(words, timeout_s)

    def wait(self) -> int:
        """Its end, and its exit code."""
        self._ended.wait()
        assert self.exit_code is not None
        return self.exit_code

    @property
    def well(self) -> bool:
        """Running, and healthy where something tells."""
        return self.status == "running" and self.health in ("none", "healthy")

    def _live(self) -> None:
        back_off = _FIRST_BACK_OFF_S
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._run()
            except ContainerError as error:
                self.error, self.exit_code = str(error), 127
                break
            if not self._again():
                break
            back_off = _FIRST_BACK_OFF_S if time.monotonic() - began >= _STEADY_S else back_off
            self._become("restarting")
            if self._stopping.wait(back_off):
                break
            back_off = min(2 * back_off, _LONGEST_BACK_OFF_S)
            self.restarts += 1
        self._ended.set()
        self._become("exited")
        self._up.set()

    def _run(self) -> None:
        """One container, to its end."""
        with self._log.open("ab") as log:
            running = self._running = Running(self.service.container, log)
            self.health = "starting" if self.service.health else "none"
            self._become("running")
            self._up.set()
            if self._stopping.is_set():  # asked for while it started
                running.signal(signal.SIGTERM)
            over = threading.Event()
            if self.service.health:
                threading.Thread(target=self._watch, args=(self.service.health, running, over), daemon=True).start()
            self.exit_code = running.wait()
            over.set()
            self._running = None

    def _again(self) -> bool:
        policy, _, most = self.service.restart.partition(":")
        if self._stopping.is_set() or policy == "no":
            return False
        if policy == "on-failure":
            return self.exit_code != 0 and (not most or self.restarts < int(most))
        return True

    def _watch(self, check: Check, running: Running, over: threading.Event) -> None:
        began, failures = time.monotonic(), 0
        while True:
            early = self.health == "starting" and time.monotonic() - began < check.start_s
            if over.wait(_START_INTERVAL_S if early else check.interval_s):
                return
            try:
                well = running.execute(check.command, check.timeout_s).returncode == 0
            except subprocess.TimeoutExpired:
                well = False
            if over.is_set():
                return
            if well:
                failures, self.health = 0, "healthy"
            elif self.health != "starting" or time.monotonic() - began >= check.start_s:
                failures += 1
                self.health = "unhealthy" if failures >= check.retries else self.health
            self._changed()

    def _become(self, status: Status) -> None:
        self.status = status
        self._changed()
