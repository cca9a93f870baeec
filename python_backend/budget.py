"""How many responses a second the streams of an engine may cost: a share of this machine, at what one costs here.

A response takes about as much of Triton and its stages whether it carries one token or ten. How much depends on the
machine, on the way (an ensemble's three stages or one) and on how many come at once; so it is measured as it is spent.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

from contract.cores import cores
from contract.engines.kinds import Kind
from contract.sections import Streaming

# An engine that computes on the cores loses what responses cost (docs/performance.md); one on a GPU leaves them idle.
ENGINES_CORES = 0.03
LEAST_PER_CORE = 50  # a second, whatever they cost: what a stream that is alone says is not worth holding
IDLE_CORES = 0.1
STAGE_CORE = 0.6  # of one core: the stage's own work is one Python process'
_FIRST_S, _FIRST_IN_STAGE_S = 0.0005, 0.00012  # what a response is taken to cost until so many were seen
_TAKEN = 100
_MOST_S = 0.002  # beyond this it is not the response that cost it
_FEWEST = 10  # between two looks: of fewer nothing is learnt, as a start or a prompt may cost more
_KEPT = 0.95  # of what was seen, at each look
_FAMILY_S = 10.0  # between two looks at who belongs to the server


class Usage:
    """CPU time of the server's processes: Triton and its stages, not an engine's own."""

    def __init__(self) -> None:
        self._family: list[psutil.Process] = []
        self._found_at = float("-inf")

    def __call__(self) -> tuple[float, float]:
        """Seconds so far: of all of them, and of this one."""
        now = time.monotonic()
        if now - self._found_at > _FAMILY_S:
            self._found_at = now
            with suppress(psutil.Error):
                server = psutil.Process(os.getppid())
                self._family = [server, *(each for each in server.children() if each.pid != os.getpid())]
        own = time.process_time()
        return own + sum(map(_cpu_s, self._family)), own


def _cpu_s(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


class Budget:
    """``responses_per_s``, over all streams together; ``look`` a few times a second keeps it true.

    Args:
        usage: CPU seconds so far of the server's processes, and of this one.
    """

    def __init__(
        self, policy: Streaming, kind: Kind, usage: Callable[[], tuple[float, float]] | None = None, count: int = 0
    ) -> None:
        self._fixed = policy.max_responses_per_s
        self._on_cores, self._cores = kind.on_cores, count or cores()
        self._usage = usage or Usage()
        self._used, self._sent = self._usage(), 0
        self._cost_s = [_TAKEN * _FIRST_S, _TAKEN * _FIRST_IN_STAGE_S]
        self._responses = float(_TAKEN)
        self.responses_per_s = self._affordable()

    @property
    def cost_s(self) -> float:
        """CPU seconds that a response takes, lately."""
        return self._cost_s[0] / self._responses

    def look(self, sent: int) -> None:
        """Learn from what was used since the last look. ``sent``: responses since the start."""
        used = self._usage()
        came, self._sent = sent - self._sent, sent
        spent, self._used = [max(0.0, now - then) for now, then in zip(used, self._used, strict=True)], used
        if came >= _FEWEST:
            self._cost_s = [
                _KEPT * before + min(more, came * _MOST_S) for before, more in zip(self._cost_s, spent, strict=True)
            ]
            self._responses = _KEPT * self._responses + came
            self.responses_per_s = self._affordable()

    def _affordable(self) -> float:
        if self._fixed:
            return float(self._fixed)
        all_s, in_stage_s = (max(cost, 1e-6) / self._responses for cost in self._cost_s)
        if self._on_cores:
            return self._cores * max(ENGINES_CORES / all_s, LEAST_PER_CORE)
        return min(IDLE_CORES * self._cores / all_s, STAGE_CORE / in_stage_s)
