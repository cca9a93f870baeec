"""Two versions side by side: each answer of the one on trial against one that the other gave at about that time.

Which request went where was decided by what its conversation goes by, so any difference within a pair is chance, or
the version. Each measure asks of a pair whether the version on trial did worse by more than a margin; pairs that say
nothing of it do not count. More often than not is too often (:mod:`release.sequential`).
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from contract.rollout import Observed
from release.sequential import Tally

TTFT_MARGIN, TTFT_FLOOR_S = 1.25, 0.01
TPOT_MARGIN = 1.1
LENGTH_MARGIN = 1.5

Worse = Callable[[Observed, Observed], bool | None]  # the one on trial, the current one; None: says nothing


def _fails(trial: Observed, current: Observed) -> bool | None:
    return None if trial.failed == current.failed else trial.failed


def _first_token(trial: Observed, current: Observed) -> bool | None:
    if trial.ttft_s is None or current.ttft_s is None:
        return None
    return trial.ttft_s > current.ttft_s * TTFT_MARGIN + TTFT_FLOOR_S


def _each_token(trial: Observed, current: Observed) -> bool | None:
    if trial.tpot_s is None or current.tpot_s is None:
        return None
    return trial.tpot_s > current.tpot_s * TPOT_MARGIN


def _cut(trial: Observed, current: Observed) -> bool | None:
    return None if _at_length(trial) == _at_length(current) else _at_length(trial)


def _not_cut(trial: Observed, current: Observed) -> bool | None:
    return None if _at_length(trial) == _at_length(current) else _at_length(current)


def _at_length(observed: Observed) -> bool:
    return observed.finish_reason == "length"


def _longer(trial: Observed, current: Observed) -> bool | None:
    return trial.completion_tokens > current.completion_tokens * LENGTH_MARGIN


def _shorter(trial: Observed, current: Observed) -> bool | None:
    return trial.completion_tokens * LENGTH_MARGIN < current.completion_tokens


MEASURES: dict[str, Worse] = {
    "it fails on more requests": _fails,
    f"its first token is later than {TTFT_MARGIN:g} × the current one's": _first_token,
    f"each token takes more than {TPOT_MARGIN:g} × the current one's": _each_token,
    "more of its answers are cut at their length": _cut,
    "fewer of its answers are cut at their length": _not_cut,
    f"its answers are more than {LENGTH_MARGIN:g} × as long": _longer,
    f"its answers are less than 1/{LENGTH_MARGIN:g} as long": _shorter,
}


@dataclass
class Comparison:
    """The pairs of one share.

    Args:
        alarm: how often, at most, a version that is no worse may be called so.
    """

    alarm: float
    pairs: int = 0
    failures: int = 0  # of the version on trial
    answers: int = 0  # of it, these among them
    tallies: dict[str, Tally] = field(default_factory=lambda: dict.fromkeys(MEASURES, Tally()))
    _current: deque[Observed] = field(default_factory=lambda: deque(maxlen=64))
    _waiting: deque[Observed] = field(default_factory=deque)  # of the version on trial, for a partner

    def take(self, observed: Observed) -> None:
        """One more answer of either."""
        if not observed.trial:
            self._current.append(observed)
        else:
            self.answers += 1
            self.failures += observed.failed
            self._waiting.append(observed)
        while self._waiting and self._current:
            self._judge(self._waiting.popleft(), self._current.pop())

    def _judge(self, trial: Observed, current: Observed) -> None:
        self.pairs += 1
        for name, worse in MEASURES.items():
            told = worse(trial, current)
            if told is not None and (name == "it fails on more requests" or not (trial.failed or current.failed)):
                self.tallies[name] = self.tallies[name].seen(told)

    @property
    def alarmed(self) -> str:
        """What is worse, with its figures; '' while nothing is known to be."""
        for name, tally in self.tallies.items():
            if tally.capital >= len(MEASURES) / self.alarm:
                return f"{name} (in {tally.yes} of {tally.yes + tally.no} pairs)"
        return ""

    def told(self) -> dict[str, Any]:
        """For the report."""
        counts = {name: [tally.yes, tally.no] for name, tally in self.tallies.items()}
        return {"pairs": self.pairs, "answers": self.answers, "failures": self.failures, "worse_or_not": counts}
