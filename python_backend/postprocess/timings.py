"""When what of an answer happened, for a request that asks: NVIDIA's return_perf_metrics, and one moment more."""

import time
from dataclasses import dataclass

from contract.wire import EngineDelta, Opening


@dataclass(slots=True)
class Timings:
    """One stream's moments, named as the outputs; on time.monotonic_ns(), 0 where nobody knows."""

    received_time_ns: int
    arrival_time_ns: int
    first_scheduled_time_ns: int = 0
    first_token_time_ns: int = 0
    last_token_time_ns: int = 0

    @classmethod
    def of(cls, opening: Opening) -> "Timings | None":
        """Of a stream that begins; None where nobody asks."""
        received_ns = opening.delivery.received_ns
        return cls(received_ns, opening.submitted_ns) if received_ns else None

    def take(self, delta: EngineDelta) -> None:
        """Note what a delta brings."""
        if delta.scheduled_ns:
            self.first_scheduled_time_ns = delta.scheduled_ns
        if delta.ids:
            self.last_token_time_ns = delta.sent_ns or time.monotonic_ns()
            self.first_token_time_ns = self.first_token_time_ns or self.last_token_time_ns
