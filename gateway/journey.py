"""What one HTTP request lived through: filled in on the way, told to the log and the metrics at its end."""

import time
from dataclasses import dataclass, field

from starlette.requests import Request

NO_RESPONSE = 499  # nginx's word for a client that left before it


@dataclass
class Journey:
    """One request; times on time.monotonic()."""

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
    began: float = field(default_factory=time.monotonic)
    admitted: float = 0.0
    first_token: float = 0.0
    release: str = ""  # the one that was on for its deployment
    trial: bool = False  # the version on trial was asked
    by_another: bool = False  # and another had to answer


def journey_of(request: Request) -> Journey:
    """The journey that the outermost middleware began."""
    journey: Journey = request.scope["journey"]
    return journey
