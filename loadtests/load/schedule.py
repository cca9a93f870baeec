"""The open loop's schedule: when each request of the whole run is due, drawn from a seed before the run begins.

Every worker draws the same schedule and takes its own share of it, so a run is one arrival process however many
processes carry it. Nothing in it depends on how the server does.
"""

import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from loadtests.load.fault import LoadError

MAX_ARRIVALS = 1_000_000


@dataclass(frozen=True)
class Arrival:
    """One request's place in the run; a trace may say more of it than when."""

    at: float  # seconds since the run's start
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    blocks: tuple[int, ...] = ()  # of shared prefixes, by their hashes


def constant(rate: float, seconds: float) -> Iterator[float]:
    """Evenly spaced."""
    return (number / rate for number in range(math.ceil(rate * seconds)))


def gamma(rate: float, seconds: float, shape: float, rng: random.Random) -> Iterator[float]:
    """Gamma distributed gaps: shape 1 is Poisson, below it comes in bursts, above it nears a constant rate."""
    at = rng.gammavariate(shape, 1 / (rate * shape))
    while at < seconds:
        yield at
        at += rng.gammavariate(shape, 1 / (rate * shape))


def ramp(start: float, end: float, seconds: float, rng: random.Random) -> Iterator[float]:
    """A Poisson process whose rate goes in a straight line from one to the other."""
    slope = (end - start) / seconds
    expected = 0.0
    while True:
        expected += rng.expovariate(1)  # arrivals so far, of the rate's integral: start·t + slope·t²/2
        if slope == 0:
            at = expected / start
        else:
            under = start * start + 2 * slope * expected
            if under < 0:
                return
            at = (math.sqrt(under) - start) / slope
        if at >= seconds:
            return
        yield at


def trace(path: Path, seconds: float) -> list[Arrival]:
    """Arrivals from JSON lines: ``timestamp`` (ms), ``input_length``, ``output_length``, ``hash_ids``, as Mooncake's.

    Raises:
        LoadError: naming the file and the line.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"--arrivals: {path} cannot be read: {error}") from None
    read = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            arrival = Arrival(
                float(entry["timestamp"]) / 1000,
                int(entry["input_length"]) if "input_length" in entry else None,
                int(entry["output_length"]) if "output_length" in entry else None,
                tuple(int(block) for block in entry.get("hash_ids", ())),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise LoadError(
                f"--arrivals: {path}:{number} is no arrival: {error!r}",
                fix='A line is {"timestamp": MS, "input_length": N, "output_length": N}',
            ) from None
        if 0 <= arrival.at < seconds:
            read.append(arrival)
    return sorted(read, key=lambda arrival: arrival.at)


def schedule(arrivals: str, rate: float, seconds: float, seed: int) -> list[Arrival]:
    """The schedule that ``--arrivals`` asks for: constant, poisson, gamma:SHAPE, ramp:FROM-TO or trace:FILE.

    Raises:
        LoadError: naming the option.
    """
    kind, _, rest = arrivals.partition(":")
    rng = random.Random(f"arrivals-{seed}")
    try:
        match kind:
            case "trace":
                planned = trace(Path(rest), seconds)
            case "constant":
                planned = [Arrival(at) for at in constant(_bounded(rate, seconds), seconds)]
            case "poisson":
                planned = [Arrival(at) for at in gamma(_bounded(rate, seconds), seconds, 1.0, rng)]
            case "gamma":
                shape = float(rest)
                if shape <= 0:
                    raise ValueError("shape")
                planned = [Arrival(at) for at in gamma(_bounded(rate, seconds), seconds, shape, rng)]
            case "ramp":
                start, end = (float(part) for part in rest.split("-"))
                _bounded(max(start, end), seconds)
                planned = [Arrival(at) for at in ramp(start, end, seconds, rng)]
            case _:
                raise ValueError(kind)
    except ValueError:
        raise LoadError(
            f"--arrivals: {arrivals!r} is no schedule",
            fix="Use constant, poisson, gamma:SHAPE, ramp:FROM-TO or trace:FILE",
        ) from None
    if not planned:
        raise LoadError(f"--arrivals: {arrivals} at --rate {rate:g} plans no request within {seconds:g} s")
    return planned


def _bounded(rate: float, seconds: float) -> float:
    if not 0 < rate < math.inf:
        raise LoadError(f"--rate: must be above 0, got {rate:g}")
    if rate * seconds > MAX_ARRIVALS:
        raise LoadError(f"--rate: {rate:g} for {seconds:g} s is more than {MAX_ARRIVALS:,} requests")
    return rate
