"""Each key's requests and tokens a minute: a bucket of each, which fills evenly and holds a minute's worth.

A request is charged when it comes, for what it may come to hold, and settled when it ends, for what it came to; one
that is never started costs nothing. Who is refused is told when the bucket will have enough, neither sooner nor later.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from contract.errors import InvalidRequest
from contract.quota import DEFAULT, Quota
from gateway.standing import Allowance, ComeBack, Standing, seconds_told

_MINUTE_S = 60.0
_ROUNDING = 1e-6  # of a token: waiting until it is there must be enough
_NONE = Quota()
_FREE = (0.0, 0, "")


@dataclass
class Bucket:
    """So much a minute, and no more at once.

    Args:
        level: what is in it; less than nothing where an answer came to more than was charged.
    """

    size: int
    clock: Callable[[], float]
    level: float
    _seen: float

    @staticmethod
    def full(size: int, clock: Callable[[], float]) -> "Bucket":
        """A new one."""
        return Bucket(size, clock, size, clock())

    def wait_s(self, amount: int) -> float:
        """How long until so much is in it."""
        missing = amount - self._now()
        return missing * _MINUTE_S / self.size if missing > _ROUNDING else 0.0

    def take(self, amount: int) -> None:
        """Take so much out, or with less than nothing put it back."""
        self.level = min(self.size, self._now() - amount)

    def standing(self) -> Allowance:
        """What it has left."""
        return Allowance(self.size, max(0, math.floor(self._now() + _ROUNDING)), self.wait_s(self.size))

    def _now(self) -> float:
        now = self.clock()
        self.level = min(self.size, self.level + (now - self._seen) * self.size / _MINUTE_S)
        self._seen = now
        return self.level


@dataclass(frozen=True)
class _Buckets:
    """A key's."""

    requests: Bucket | None
    tokens: Bucket | None

    def asked(self, requests: int, tokens: int) -> Iterator[tuple[Bucket, int, str]]:
        """Each bucket, what is asked of it, and what it holds."""
        for bucket, amount, what in ((self.requests, requests, "requests"), (self.tokens, tokens, "tokens")):
            if bucket:
                yield bucket, amount, what


@dataclass
class Quotas:
    """All keys' quotas of one deployment.

    Args:
        given: by the key's name; DEFAULT is that of the others.
    """

    given: Mapping[str, Quota] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    _buckets: dict[str, _Buckets] = field(default_factory=dict)

    @property
    def has_classes(self) -> bool:
        """Whether there are batch keys at all."""
        return any(quota.priority == "batch" for quota in self.given.values())

    def is_batch(self, key: str) -> bool:
        """Whether a key yields to the others."""
        return self._of(key).priority == "batch"

    def charge(self, key: str, tokens: int) -> None:
        """A request has come.

        Raises:
            InvalidRequest: it may come to more than the quota of a minute.
            ComeBack: the quota is spent; nothing was charged.
        """
        asked = list(self._buckets_of(key).asked(1, tokens))
        for bucket, amount, _ in asked:
            if amount > bucket.size:
                raise InvalidRequest(
                    f"with its prompt the request may come to {amount} tokens, {_whose(key)} {bucket.size} a minute",
                    field="max_tokens",
                    fix="Give a smaller max_tokens, or shorten the prompt",
                )
        wait_s, size, what = max(((each.wait_s(much), each.size, name) for each, much, name in asked), default=_FREE)
        if wait_s:
            raise ComeBack(
                f"{_whose(key)} {size} {what} a minute, of which too few are left",
                wait_s,
                self.standing(key),
                spent=True,
                fix=f"Try again in {seconds_told(wait_s)} s",
            )
        for bucket, amount, _ in asked:
            bucket.take(amount)

    def settle(self, key: str, tokens: int, requests: int = 0) -> None:
        """Put back what was charged and not used; less than nothing where more was used."""
        for bucket, amount, _ in self._buckets_of(key).asked(requests, tokens):
            bucket.take(-amount)

    def standing(self, key: str) -> Standing | None:
        """What a key has left; None: it has no quota."""
        found = {what: bucket.standing() for bucket, _, what in self._buckets_of(key).asked(0, 0)}
        return Standing(found.get("requests"), found.get("tokens")) if found else None

    def _of(self, key: str) -> Quota:
        return self.given.get(key) or self.given.get(DEFAULT, _NONE)

    def _buckets_of(self, key: str) -> _Buckets:
        if key not in self._buckets:
            quota = self._of(key)
            sizes = (quota.requests_per_minute, quota.tokens_per_minute)
            self._buckets[key] = _Buckets(*(Bucket.full(size, self.clock) if size else None for size in sizes))
        return self._buckets[key]


def _whose(key: str) -> str:
    return f"the quota of key {key} is" if key else "the quota is"
