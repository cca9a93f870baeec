"""How a request or a whole run fails."""

from contract.errors import ConchError
from loadtests.load.rows import Outcome


class LoadError(ConchError):
    """A load test that cannot be run as asked; names the option at fault."""


class StreamFault(Exception):
    """A request that got no whole answer."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail


def outcome_of_status(status: int) -> Outcome:
    """What an HTTP status means for its request."""
    if status == 429:
        return Outcome.RATE_LIMITED
    if status in {408, 504}:
        return Outcome.TIMEOUT
    return Outcome.REFUSED if 400 <= status < 500 else Outcome.SERVER_ERROR
