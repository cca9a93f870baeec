"""What one API key may ask for, and whether it yields to others."""

from typing import Annotated, Literal

from pydantic import Field

from contract.frozen import Frozen

DEFAULT = "default"  # the quota of every key that has none of its own

KeyName = Annotated[str, Field(pattern=r"^[\w.@-]{1,64}$")]  # as python -m gateway.keys writes it


class Quota(Frozen):
    """Of one key, for one deployment; 0: no limit."""

    requests_per_minute: int = Field(default=0, ge=0)
    tokens_per_minute: int = Field(default=0, ge=0)  # of prompts and answers
    priority: Literal["interactive", "batch"] = "interactive"
