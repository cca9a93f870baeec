"""How much a request may come to hold: its answers in flight, and their tokens, guessed before they are counted."""

from dataclasses import dataclass

from contract.spec import Deployment


@dataclass(frozen=True)
class Load:
    """What is in flight, or may be; 0 in a limit is no limit."""

    requests: int = 0
    tokens: int = 0

    def __add__(self, other: "Load") -> "Load":
        return Load(self.requests + other.requests, self.tokens + other.tokens)

    def __sub__(self, other: "Load") -> "Load":
        return Load(self.requests - other.requests, self.tokens - other.tokens)

    def fits(self, limit: "Load") -> bool:
        """Whether this is within a limit."""
        return self.requests <= (limit.requests or self.requests) and self.tokens <= (limit.tokens or self.tokens)

    def share(self, of_it: float) -> "Load":
        """So much of a limit, and one at least of what is limited."""
        return Load(*(max(1, int(each * of_it)) if each else 0 for each in (self.requests, self.tokens)))


def most_in_flight(spec: Deployment) -> tuple[Load, Load]:
    """What one deployment takes on, and what of that batch keys may hold together."""
    limits = spec.gateway
    every = Load(limits.max_requests or spec.limits.max_batch_size, limits.max_tokens)
    return every, every.share(limits.batch_share)


@dataclass
class PromptSizes:
    """How many tokens a prompt of so many bytes has, learnt from the prompts that were counted."""

    _bytes: float = 300.0  # begins at a token for three bytes, as heavy as one short prompt
    _tokens: float = 100.0

    def estimate(self, size: int) -> int:
        """Tokens of a text of ``size`` UTF-8 bytes, one at least."""
        return max(1, round(size * self._tokens / self._bytes))

    def learn(self, size: int, tokens: int) -> None:
        """A prompt was counted; what was learnt long ago counts for less."""
        self._bytes = 0.98 * self._bytes + size
        self._tokens = 0.98 * self._tokens + tokens
