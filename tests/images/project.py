"""The services of a rendered compose file, run as ``docker compose`` runs them: up, up --wait, stop, logs."""

import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.images.compose import Images, read
from tests.images.service import Life, Service

COMPLETED = "service_completed_successfully"


class NotUp(Exception):
    """A service did not become what another, or the caller, waits for."""


class Project:
    """A compose file's containers; leaving the context stops them.

    Args:
        logs: a folder for what they say.
    """

    def __init__(self, file: Path, image: Images, logs: Path) -> None:
        self._file, self._image, self._logs = file, image, logs
        self._changed = threading.Condition()
        self.lives: dict[str, Life] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def up(self, *profiles: str, wait: bool = False, timeout_s: float = 240) -> None:
        """Start what does not run, each service when those before it are as it wants them.

        Args:
            wait: until each runs, is healthy where something tells, or has done its work where others wait for that.

        Raises:
            NotUp: a service ended, or was found ill; or the time is over. With the end of its log.
            ValueError: the file cannot be run.
        """
        services = read(self._file, self._image, *profiles)
        deadline = time.monotonic() + timeout_s
        for name, service in services.items():
            for other, condition in service.after.items():
                self._until(other, condition, deadline)
            if name not in self.lives or self.lives[name].status == "exited":
                self._start(service)
        once = {name for service in services.values() for name, it in service.after.items() if it == COMPLETED}
        for name in services if wait else ():
            self._until(name, COMPLETED if name in once else "service_healthy", deadline)

    def run(self, name: str, *profiles: str) -> tuple[int, str]:
        """``run --rm``: another container of a service to its end; its exit code, and what it said."""
        service = replace(read(self._file, self._image, *profiles)[name], health=None, restart="no")
        log = self._log(f"{name}-run")
        log.unlink(missing_ok=True)
        life = Life(service, log)
        life.start()
        return life.wait(), life.error + log.read_text(errors="replace")

    def execute(self, name: str, *words: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """``exec``: a command in a service's running container."""
        return self.lives[name].execute(words, timeout_s)

    def stop(self) -> None:
        """Stop all, those first that wait for others."""
        for life in reversed(self.lives.values()):
            if life.status != "exited":
                life.stop()

    def kill(self, name: str) -> None:
        """End a service's container from outside of docker, as the kernel does when memory ends."""
        self.lives[name].kill()

    def logs(self, name: str) -> str:
        """All that a service's containers have said."""
        path = self._log(name)
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_for(self, name: str, *, restarts: int, timeout_s: float = 120) -> None:
        """Until a service is well again after so many restarts.

        Raises:
            NotUp: it is not.
        """
        life = self.lives[name]
        with self._changed:
            if not self._changed.wait_for(lambda: life.restarts >= restarts and life.well, timeout_s):
                raise NotUp(self._about(name))

    def _start(self, service: Service) -> Life:
        life = self.lives[service.name] = Life(service, self._log(service.name), self._tell)
        life.start()
        if life.error:
            raise NotUp(f"{service.name}: {life.error}\n{self.logs(service.name)[-2000:]}")
        return life

    def _until(self, name: str, condition: str, deadline: float) -> None:
        life = self.lives[name]

        def met() -> bool | None:
            """None: never."""
            if condition == COMPLETED:
                return None if life.status == "exited" and life.exit_code else life.status == "exited"
            if life.status == "exited" or life.health == "unhealthy":
                return None
            return life.status == "running" if condition == "service_started" else life.well

        with self._changed:
            self._changed.wait_for(lambda: met() is not False, deadline - time.monotonic())
            if not met():
                raise NotUp(self._about(name))

    def _about(self, name: str) -> str:
        life = self.lives[name]
        code = "" if life.exit_code is None else f" ({life.exit_code})"
        return f"{name} is {life.status}{code}, health {life.health}:\n{self.logs(name)[-4000:]}"

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"
