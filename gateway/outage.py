"""How long a server that is away will stay away, learnt from how long it has been, and was before."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.pace import LONGEST_RETRY_S

_LAST = 4


@dataclass
class Outage:
    """One deployment's outages, as its requests see them."""

    clock: Callable[[], float] = time.monotonic
    _began: float | None = None
    _seen: float = 0.0
    _took_s: deque[float] = field(default_factory=lambda: deque(maxlen=_LAST))

    def failed(self) -> None:
        """A request met no server, or lost it."""
        self._seen = self.clock()
        if self._began is None:
            self._began = self._seen

    def answered(self) -> None:
        """A request was."""
        if self._began is not None:
            self._took_s.append(self._seen - self._began)
            self._began = None

    def retry_after_s(self) -> float:
        """When to come back: what is left of an outage like the last ones, and as long again as this one has taken."""
        took_s = 0.0 if self._began is None else self.clock() - self._began
        left_s = max(self._took_s, default=0.0) - took_s
        return min(LONGEST_RETRY_S, max(1.0, took_s, left_s))
