"""What one HTTP request lived through: filled in on the way, told to the log and the metrics at its end."""

import time
from dataclasses import dataclass, field

from starlette.requests import Request

from contract.errors import REQUEST_ERRORS, Overloaded
from gateway.standing import Standing

OVER_QUOTA = "over_quota"  # why a request ended that its key had no quota for
NO_RESPONSE = 499  # nginx's word for a client that left before it
_FAILURES = {error.codes.code for error in REQUEST_ERRORS.values()}  # as the end of a stream that had begun


@dataclass
class Journey:
    """One request; times on time.monotonic()."""

    request_id: str = ""
    route: str = "other"
    model: str = ""
    key: str = ""  # the API key's name
    session: str = ""  # what it belongs to, where its client says
    status: int = NO_RESPONSE
    finish_reason: str = ""  # or the error's code
    prompt_tokens: int = 0
    cached_tokens: int | None = None  # of those, where the engine tells
    expected_tokens: int = 0  # of those, what the chosen server's cache should have
    completion_tokens: int = 0
    servers: list[str] = field(default_factory=list)  # where there are several: of each answer, that which ended it
    standing: Standing | None = None  # of the key's quota
    began: float = field(default_factory=time.monotonic)
    admitted: float = 0.0
    first_token: float = 0.0
    release: str = ""  # the one that was on for its deployment
    trial: bool = False  # the version on trial was asked
    by_another: bool = False  # and another had to answer

    @property
    def outcome(self) -> str:
        """How it ended, in one word of six."""
        if self.status == NO_RESPONSE or (self.admitted and not self.finish_reason):
            return "left"
        if self.status >= 500 or (self.status < 400 and self.finish_reason in _FAILURES):
            return "failed"
        if self.status == Overloaded.codes.http:
            return OVER_QUOTA if self.finish_reason == OVER_QUOTA else "overloaded"
        return "refused" if self.status >= 400 else "answered"


def journey_of(request: Request) -> Journey:
    """The journey that the outermost middleware began."""
    journey: Journey = request.scope["journey"]
    return journey
