"""The options of the communication tests, the same for the starter and for each rank."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Backend = Literal["nccl", "gloo", "mpi"]


@dataclass(frozen=True)
class Options:
    """What is tested, and when it has failed."""

    backend: Backend
    mib: int
    rounds: int
    seconds: float
    timeout: float
    wait: float
    floor_gbps: float
    json: Path | None

    def words(self) -> list[str]:
        """As a command line."""
        pairs = {f"--{name.replace('_', '-')}": value for name, value in vars(self).items() if value is not None}
        return [str(word) for pair in pairs.items() for word in pair]


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options that every rank gets."""
    parser.add_argument("--backend", choices=get_args(Backend), default="gloo", help="gloo: CPU; nccl: GPUs")
    parser.add_argument("--mib", type=count, default=16, help="size of a message")
    parser.add_argument("--rounds", type=count, default=10, help="messages that are timed")
    parser.add_argument("--seconds", type=_limit, default=0.0, help="repeat the collectives for this long")
    parser.add_argument("--timeout", type=_duration, default=60.0, help="seconds a test may take")
    parser.add_argument("--wait", type=_duration, default=600.0, help="seconds in which all nodes must be there")
    parser.add_argument("--floor-gbps", type=_limit, default=0.0, help="fail below this bus bandwidth, in Gbit/s")
    parser.add_argument("--json", type=Path, help="where the head writes the results")


def taken(found: argparse.Namespace) -> Options:
    """The options among what was parsed."""
    return Options(**{name: getattr(found, name) for name in Options.__annotations__})


def options(parser: argparse.ArgumentParser) -> Options:
    """The options of this process."""
    add(parser)
    return taken(parser.parse_args())


def count(text: str) -> int:
    """An option that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} must be a whole number from 1")
    return int(text)


def _duration(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 1 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text} must be a number of seconds from 1 to 86400")
    return seconds


def _limit(text: str) -> float:
    try:
        limit = float(text)
    except ValueError:
        limit = -1
    if not 0 <= limit < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} must be a number from 0, which turns it off")
    return limit
