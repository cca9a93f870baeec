"""How far behind those are that send responses, and what the outbox makes of it: fewer and larger deltas meanwhile.

The budget of responses (budget.py) may be more than this machine carries. Then deltas queue, inside Triton or before
it, and every client waits for all of them. Who sends them tells how long one was under way; the interval between
deltas grows while that is too long, and shrinks back when it is not.
"""

import time

LATE_S = 0.2  # under way for longer: more is sent than is carried
HOPELESS_S = 3.0  # new requests would only make it worse
_FORGOTTEN_S = 2.0  # a lag that nobody has told since: there is nothing left to carry
_GROWTH, _MOST = 1.3, 50.0


class Pressure:
    """What was last told."""

    def __init__(self) -> None:
        self._lag_s = 0.0
        self._told_at = 0.0
        self._stretch = 1.0

    def told(self, lag_s: float) -> None:
        """A delta was sent that was ``lag_s`` seconds under way."""
        self._lag_s, self._told_at = lag_s, time.monotonic()
        self._stretch = min(_MOST, self._stretch * _GROWTH) if lag_s > LATE_S else max(1.0, self._stretch / _GROWTH)

    @property
    def lag_s(self) -> float:
        """How long deltas are under way, in seconds; 0 when none has been for a while."""
        return self._lag_s if time.monotonic() - self._told_at < _FORGOTTEN_S else 0.0

    @property
    def stretch(self) -> float:
        """By how much the interval between deltas is to grow."""
        return self._stretch if time.monotonic() - self._told_at < _FORGOTTEN_S else 1.0
