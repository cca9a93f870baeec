"""How many cores this process may use: what it is pinned to, and what a container's quota leaves of them."""

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores(quota: Path = _QUOTA) -> int:
    """At least one. ``quota``: cgroup v2's ``cpu.max``, "MICROSECONDS PERIOD" or "max PERIOD"."""
    pinned = len(os.sched_getaffinity(0))
    try:
        allowed, period = quota.read_text().split()
        return max(1, min(pinned, round(int(allowed) / int(period))))
    except (OSError, ValueError):
        return pinned
