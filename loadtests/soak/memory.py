"""Is memory flat? Samples of each process while nothing is killed, and how much it still gains late in such a stretch.

The figure is the median of the last quarter of a stretch's samples less that of its third quarter, scaled to
10,000 requests: caches that fill have had half of the stretch to fill, one sample more or less turns nothing, and
a leak of 200 bytes a request shows as 2 MiB. Over several stretches the median counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

FLAT_MIB = 2.0  # for 10,000 requests
PER = 10_000
LEAST_REQUESTS = 20_000  # of a stretch: the tokenizer's cache keeps 10,000 prompts
_LEAST = 16  # samples


@dataclass
class Stretch:
    """Requests without a kill: (requests ended, {process: MiB}) as time went by."""

    samples: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    def growth(self) -> dict[str, float]:
        """MiB for 10,000 requests late in the stretch, by process; {} where it is too short to tell."""
        quarter = len(self.samples) // 4
        if quarter * 4 < _LEAST:
            return {}
        third, last = self.samples[2 * quarter : 3 * quarter], self.samples[3 * quarter :]
        requests = median(count for count, _ in last) - median(count for count, _ in third)
        names = set.intersection(*(set(memory) for _, memory in (*third, *last)))
        if requests <= 0:
            return {}
        return {name: round((_level(last, name) - _level(third, name)) * PER / requests, 2) for name in sorted(names)}


def overall(stretches: Sequence[dict[str, float]]) -> dict[str, float]:
    """Each process's median over the stretches that tell of it."""
    names = sorted({name for stretch in stretches for name in stretch})
    return {name: round(median(each[name] for each in stretches if name in each), 2) for name in names}


def is_flat(growth: dict[str, float]) -> bool:
    """Whether no process still grows; what was not measured is not flat."""
    return bool(growth) and max(growth.values()) <= FLAT_MIB


def _level(samples: Sequence[tuple[int, dict[str, float]]], name: str) -> float:
    return median(memory[name] for _, memory in samples)
