"""Where the load goes, and what every transport does for it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from loadtests.load.fault import LoadError
from loadtests.load.rows import Row
from loadtests.load.workload import Ask

Clock = Callable[[], float]


class Stream(Protocol):
    """A way to ask."""

    def __call__(self, ask: Ask, row: Row, clock: Clock) -> str:
        """Send it, fill the row as the answer comes, return the text.

        Raises:
            StreamFault: no whole answer.
        """


@dataclass(frozen=True)
class Target:
    """A server, a model of it, and the manners of asking."""

    host: str  # an URL; host:port for gRPC
    model: str
    timeout_s: float
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.host if "://" in self.host else f"//{self.host}")
        try:
            port = parts.port
        except ValueError:
            port = None
        if not parts.hostname:
            raise LoadError(
                f"--host: {self.host!r} names no server", fix="Give http://HOST:PORT, or HOST:PORT for gRPC"
            )
        return parts.hostname, port or (443 if parts.scheme == "https" else 80)

    @property
    def secure(self) -> bool:
        """Whether TLS is wanted."""
        return self.host.startswith("https://")

    @property
    def path(self) -> str:
        """What the URL has before the API's own path."""
        return urlsplit(self.host).path.rstrip("/") if "://" in self.host else ""


def clock_from(begins: float) -> Clock:
    """Seconds since a moment of the wall clock, ticking monotonically."""
    origin = time.perf_counter() + (begins - time.time())
    return lambda: time.perf_counter() - origin
