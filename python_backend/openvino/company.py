"""Requests that come together to an idle engine: a short wait lets them share its first step.

Else the first of them would be prefilled alone, and the others only after it. As many are expected as came together the
last time, so a request that comes alone, as the one before it did, does not wait.
"""

import time
from collections.abc import Callable

MOST_S = 0.02


class Company:
    """What ``arrive`` was told; the caller's lock guards it.

    ``step_s``, the engine's last step in seconds, is the longest wait.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.step_s = 0.0
        self._first_at = float("-inf")
        self._came = self._expected = 1

    def arrive(self, *, idle: bool) -> None:
        """A request came. ``idle``: the engine has no other."""
        now = self._clock()
        if now - self._first_at <= self._window_s:
            self._came += 1
        elif idle:
            self._expected, self._came, self._first_at = self._came, 1, now

    def wait_s(self) -> float:
        """How long the rest of them may still be waited for."""
        if self._came >= self._expected:
            return 0.0
        return max(0.0, self._first_at + self._window_s - self._clock())

    @property
    def _window_s(self) -> float:
        return min(self.step_s, MOST_S)
