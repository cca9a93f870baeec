"""What is known of all requests together, and of the deployments: kept by one process, whoever asks for it."""

from collections.abc import Mapping
from typing import Protocol

from gateway.backend import Backend
from gateway.health import Health
from gateway.journey import Journey
from gateway.ledger import Ledger
from gateway.metrics import Metrics
from gateway.observations import observe


class Books(Protocol):
    """Where a process that answers requests notes them, and looks things up."""

    def record(self, journey: Journey, now: float) -> None:
        """A request has ended."""

    async def page(self) -> bytes:
        """The page that Prometheus reads."""

    async def verdicts(self) -> dict[str, str]:
        """Why each deployment does not answer; '' where it does."""

    async def alive(self) -> None:
        """Return if requests can be admitted.

        Raises:
            Refused: they cannot.
        """


class OwnBooks:
    """Kept in this process."""

    def __init__(self, backends: Mapping[str, Backend], ledger: Ledger | None = None) -> None:
        self._backends = backends
        self._ledger = ledger
        self._metrics = Metrics(backends.values())
        self._healths = {name: Health(backends, name) for name in backends}

    def record(self, journey: Journey, now: float) -> None:
        """As :class:`Books`."""
        self._metrics.record(journey, now)
        if journey.release:
            observe(self._backends[journey.model].run_dir, journey, now)
        if self._ledger and journey.model:
            self._ledger.note(journey, now)

    async def page(self) -> bytes:
        """As :class:`Books`."""
        return self._metrics.page()

    async def verdicts(self) -> dict[str, str]:
        """As :class:`Books`; a deployment is asked at most once a second."""
        return {name: await health.verdict() for name, health in self._healths.items()}

    async def alive(self) -> None:
        """As :class:`Books`."""
