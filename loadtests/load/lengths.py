"""Lengths from a distribution, as one word: ``64``, ``uniform:16-256``, ``normal:128,32``, ``lognormal:120,1``."""

import math
import random
import re
from dataclasses import dataclass

from loadtests.load.fault import LoadError

_FORMS = {
    "fixed": r"(\d+)",
    "uniform": r"(\d+)-(\d+)",
    "normal": r"(\d+(?:\.\d+)?),(\d+(?:\.\d+)?)",  # mean, standard deviation
    "lognormal": r"(\d+(?:\.\d+)?),(\d+(?:\.\d+)?)",  # median, sigma of the logarithm
}


@dataclass(frozen=True)
class Lengths:
    """A distribution of whole numbers, never below 1."""

    form: str
    first: float
    second: float = 0.0

    def draw(self, rng: random.Random) -> int:
        """One length."""
        match self.form:
            case "uniform":
                drawn: float = rng.randint(int(self.first), int(self.second))
            case "normal":
                drawn = rng.gauss(self.first, self.second)
            case "lognormal":
                drawn = rng.lognormvariate(math.log(self.first), self.second)
            case _:
                drawn = self.first
        return max(1, round(drawn))


def lengths(text: str, option: str) -> Lengths:
    """Read a distribution.

    Raises:
        LoadError: naming the option.
    """
    form, _, numbers = text.rpartition(":")
    form = form or "fixed"
    found = re.fullmatch(_FORMS.get(form, "(?!)"), numbers)
    if not found:
        raise LoadError(
            f"{option}: {text!r} is no distribution of lengths",
            fix="Use 64, uniform:16-256, normal:MEAN,DEVIATION or lognormal:MEDIAN,SIGMA",
        )
    read = Lengths(form, *(float(number) for number in found.groups()))
    if read.first < 1 or (form == "uniform" and read.second < read.first):
        raise LoadError(f"{option}: {text!r} must begin at 1 or more, and not end before it begins")
    return read
