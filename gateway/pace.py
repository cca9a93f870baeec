"""How fast requests have lately ended: what tells who waits how long it will be."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import quantiles

from gateway.load import Load

LONGEST_RETRY_S = 60.0

_LAST = 64  # the rate is that of so many requests
_SURE = 16  # ended requests, before one is refused for how long it would take


@dataclass
class Pace:
    """The last requests that ended."""

    clock: Callable[[], float]
    _released: deque[tuple[float, Load]] = field(default_factory=lambda: deque(maxlen=_LAST))
    _took_s: deque[float] = field(default_factory=lambda: deque(maxlen=_LAST))

    def ended(self, load: Load, began: float) -> None:
        """A request gave back what it held."""
        now = self.clock()
        self._released.append((now, load))
        self._took_s.append(now - began)

    def wait_s(self, wanted: Load, room: Load) -> float | None:
        """How long until what is wanted has come within the room; None: not known yet.

        Args:
            wanted: what is in flight, what goes before, and the request itself.
        """
        if len(self._released) < 2:
            return None
        elapsed_s = max(1e-3, self.clock() - self._released[0][0])
        drained = sum((each for _, each in self._released), Load())
        waits = [
            (much - limit) * elapsed_s / done
            for much, limit, done in (
                (wanted.requests, room.requests, drained.requests),
                (wanted.tokens, room.tokens, drained.tokens),
            )
            if limit and done
        ]
        return max([0.0, *waits])

    def quick_s(self) -> float | None:
        """How long the quickest quarter took at most; None where too few have ended."""
        return quantiles(self._took_s, n=4)[0] if len(self._took_s) >= _SURE else None
