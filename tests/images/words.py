"""Words that compose files and docker's commands have in common."""

import re
from collections.abc import Callable

from tests.images.replicas import Replica

Images = Callable[[str], Replica]

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3}


def seconds(text: str) -> float:
    """A duration as Go writes it: ``1m30s``."""
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ms|h|m|s)", text))


def tmpfs(text: str) -> tuple[str, int]:
    """A folder in memory and its mode.

    Raises:
        ValueError: docker would let no program start in it, which bubblewrap cannot forbid.
    """
    path, _, options = text.partition(":")
    named = dict(option.partition("=")[::2] for option in options.split(","))
    if "exec" not in named:
        raise ValueError(f"{path}: nothing here does a tmpfs without exec")
    return path, int(named.get("mode", "1777"), 8)
