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
    status: int = NO_RESPONSE
    finish_reason: str = ""  # or the error's code
    prompt_tokens: int = 0
    completion_tokens: int = 0
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
