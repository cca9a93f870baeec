"""What one rank found: no torch in here, so that it can be judged anywhere."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """One test as one rank saw it."""

    name: str
    wrong: str = ""  # what was not as it must be; '' where all was
    seconds: float = 0.0  # of one round; 0 where it was not repeated
    gbps: float = 0.0  # bus bandwidth, Gbit/s; 0 where one rank alone has none
    skipped: str = ""  # why, where it did not run

    def worse(self, other: "Measured") -> "Measured":
        """The one to report of two runs of the same test."""
        if self.wrong or other.wrong:
            return self if self.wrong else other
        return self if self.seconds >= other.seconds else other


@dataclass(frozen=True)
class Offset:
    """A clock beside the head's, in seconds; positive: it is ahead."""

    seconds: float
    within: float  # half of the quickest round trip
