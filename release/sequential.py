"""Is this more often than not? Asked after every answer, as long as one likes, with a bounded chance of a false alarm.

A bet on a coin: whoever bets a part of his capital at even odds that a thing happens, against a coin of at most one
half, expects to gain nothing, and his capital ever grows a hundredfold with a chance of one in a hundred at most (Ville
1939). Which part is right depends on how bad the coin is, so the capital is spread over several. See Ramdas, Grünwald,
Vovk and Shafer, Game-theoretic statistics and safe anytime-valid inference (2023).
"""

from dataclasses import dataclass
from math import prod

_PARTS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8)  # of the capital, that are bet each time


@dataclass(frozen=True)
class Tally:
    """What was seen so far."""

    yes: int = 0
    no: int = 0

    def seen(self, happened: bool) -> "Tally":
        """One more."""
        return Tally(self.yes + happened, self.no + (not happened))

    @property
    def capital(self) -> float:
        """What a capital of 1 has become; 1/α or more: more often than not, with a chance of at most α to be wrong."""
        return sum(prod(((1 + part) ** self.yes, (1 - part) ** self.no)) for part in _PARTS) / len(_PARTS)
