"""What a soak has found so far, kept between its parts, so that it can go on another day."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from contract.errors import ConchError
from loadtests.soak.memory import FLAT_MIB, is_flat, overall
from loadtests.soak.tally import Tally


@dataclass(frozen=True)
class Settings:
    """What must be the same in every part."""

    deployment: str
    streams: int
    seed: int
    block: int  # requests; in the first third of each block processes are killed, in the rest memory is watched
    kills: bool


@dataclass
class Progress:
    """The figures of all parts."""

    settings: Settings
    tally: Tally = field(default_factory=Tally)
    seconds: float = 0.0
    parts: int = 0
    back_s: dict[str, list[float]] = field(default_factory=dict)  # from each kill to whole answers
    growth: list[dict[str, float]] = field(default_factory=list)  # of each stretch
    memory_mib: dict[str, float] = field(default_factory=dict)  # as of the last sample
    left: dict[str, float] = field(default_factory=dict)  # gauges at the end that were not 0

    @property
    def clean(self) -> bool:
        """The verdict."""
        growth = overall(self.growth)
        return self.tally.clean and not self.left and (is_flat(growth) or not growth)

    def save(self, path: Path) -> None:
        """Replace the file as a whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self)))
        fresh.replace(path)

    def report(self) -> dict[str, Any]:
        """The figures, as they are published."""
        return {
            **asdict(self.settings),
            "parts": self.parts,
            "seconds": round(self.seconds),
            "requests": self.tally.requests,
            "undisturbed": self.tally.undisturbed,
            **asdict(self.tally),
            "kills": {
                victim: {"times": len(took), "median_s": round(median(took), 2), "most_s": max(took)}
                for victim, took in self.back_s.items()
            },
            "gauges_left": self.left,
            "memory_mib": self.memory_mib,
            "memory_growth_mib_per_10000_requests": overall(self.growth),
            "memory_stretches": len(self.growth),
            "memory_limit_mib_per_10000_requests": FLAT_MIB,
            "clean": self.clean,
        }


def resumed(path: Path, settings: Settings) -> Progress:
    """The progress that is kept there, or a new one.

    Raises:
        ConchError: it is that of another soak.
    """
    try:
        kept = json.loads(path.read_text())
    except FileNotFoundError:
        return Progress(settings)
    found = Settings(**kept.pop("settings"))
    if found != settings:
        raise ConchError(f"{path} is of another soak: {asdict(found)}", fix="Go on with its options, or remove it")
    return Progress(settings, Tally(**kept.pop("tally")), **kept)
