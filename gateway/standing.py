"""What a key has left of its quota, and how OpenAI's and Anthropic's headers tell it; a refusal that knows its end."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from contract.errors import Overloaded

_OPENAI = ("limit", "remaining", "reset")
OF_QUOTAS = tuple(f"x-ratelimit-{what}-{kind}" for what in _OPENAI for kind in ("requests", "tokens"))


@dataclass(frozen=True)
class Allowance:
    """One kind of a quota."""

    limit: int
    remaining: int
    reset_s: float  # until all of it is there again


@dataclass(frozen=True)
class Standing:
    """A key's; None: not limited."""

    requests: Allowance | None
    tokens: Allowance | None


class ComeBack(Overloaded):
    """Refused by the gateway, which knows for how long.

    Args:
        standing: of the key's quota.
        spent: it is this quota that has too little left.
    """

    def __init__(
        self,
        message: str,
        retry_after_s: float,
        standing: Standing | None = None,
        *,
        spent: bool = False,
        fix: str = "",
    ) -> None:
        super().__init__(message, fix=fix)
        self.retry_after_s = retry_after_s
        self.standing = standing
        self.spent = spent


def seconds_told(retry_after_s: float) -> int:
    """As Retry-After has it: whole seconds, and never too early."""
    return max(1, math.ceil(retry_after_s))


def headers_of(standing: Standing, *, anthropic: bool) -> list[tuple[bytes, bytes]]:
    """The headers, in the dialect of who reads them."""
    form = _anthropic if anthropic else _openai
    return [(name.encode(), value.encode()) for name, value in form(standing)]


def _openai(standing: Standing) -> Iterator[tuple[str, str]]:
    for kind, allowance in _kinds(standing):
        yield f"x-ratelimit-limit-{kind}", str(allowance.limit)
        yield f"x-ratelimit-remaining-{kind}", str(allowance.remaining)
        yield f"x-ratelimit-reset-{kind}", _duration(allowance.reset_s)


def _anthropic(standing: Standing) -> Iterator[tuple[str, str]]:
    now = datetime.now(UTC)
    for kind, allowance in _kinds(standing):
        reset = now + timedelta(seconds=math.ceil(allowance.reset_s))
        yield f"anthropic-ratelimit-{kind}-limit", str(allowance.limit)
        yield f"anthropic-ratelimit-{kind}-remaining", str(allowance.remaining)
        yield f"anthropic-ratelimit-{kind}-reset", f"{reset:%Y-%m-%dT%H:%M:%SZ}"


def _kinds(standing: Standing) -> Iterator[tuple[str, Allowance]]:
    for kind, allowance in (("requests", standing.requests), ("tokens", standing.tokens)):
        if allowance:
            yield kind, allowance


def _duration(seconds: float) -> str:
    """As Go writes it and OpenAI tells it: 1m12.5s, 8.64s, 20ms."""
    minutes, ms = divmod(math.ceil(seconds * 1000), 60_000)
    if minutes or ms >= 1000 or not ms:
        return f"{f'{minutes}m' if minutes else ''}{ms / 1000:g}s"
    return f"{ms}ms"
