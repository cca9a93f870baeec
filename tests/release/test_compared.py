"""Pairs of answers: what is worse is named, what is alike is left alone, however the answers are mixed."""

import random
from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from contract.rollout import Observed
from release.compared import Comparison


@dataclass(frozen=True)
class Version:
    """How it answers."""

    ttft_s: float = 0.05
    tpot_s: float = 0.01
    tokens: float = 100
    at_length: float = 0.3
    failing: float = 0.0


def answers(version: Version, count: int, dice: random.Random, *, trial: bool) -> list[Observed]:
    """What it answered, with noise of a fifth."""

    def noisy(mean: float) -> float:
        return mean * dice.lognormvariate(0, 0.2)

    return [
        Observed(
            trial=trial,
            failed=dice.random() < version.failing,
            finish_reason="length" if dice.random() < version.at_length else "stop",
            completion_tokens=round(noisy(version.tokens)),
            ttft_s=noisy(version.ttft_s),
            tpot_s=noisy(version.tpot_s),
        )
        for _ in range(count)
    ]


def compared(trial: Version, current: Version = Version(), pairs: int = 120, seed: int = 7) -> Comparison:
    dice = random.Random(seed)
    mixed = [*answers(trial, pairs, dice, trial=True), *answers(current, pairs, dice, trial=False)]
    dice.shuffle(mixed)
    comparison = Comparison(0.05)
    for observed in mixed:
        comparison.take(observed)
        if comparison.alarmed:
            break
    return comparison


@pytest.mark.parametrize(
    ("trial", "said"),
    [
        (Version(tpot_s=0.013), "each token takes more than"),
        (Version(ttft_s=0.09), "its first token is later"),
        (Version(failing=0.3), "it fails on more requests"),
        (Version(tokens=250), "its answers are more than 1.5 × as long"),
        (Version(tokens=40), "its answers are less than 1/1.5 as long"),
        (Version(at_length=1.0), "more of its answers are cut"),
        (Version(at_length=0.0), "fewer of its answers are cut"),
    ],
)
def test_what_is_worse_is_named(trial: Version, said: str) -> None:
    assert said in compared(trial).alarmed


def test_what_is_alike_seldom_alarms() -> None:
    assert sum(bool(compared(Version(), seed=seed).alarmed) for seed in range(60)) <= 3


def test_what_is_better_does_not_alarm() -> None:
    assert not compared(Version(ttft_s=0.02, tpot_s=0.005), Version(failing=0.2)).alarmed


def test_every_answer_is_in_one_pair_at_most() -> None:
    comparison = Comparison(0.05)
    one = Observed(trial=True, failed=False)
    for _ in range(3):
        comparison.take(one)
    comparison.take(replace(one, trial=False))
    assert (comparison.pairs, comparison.answers) == (1, 3)
    comparison.take(replace(one, trial=False))
    comparison.take(replace(one, trial=False))
    comparison.take(replace(one, trial=False))
    assert comparison.pairs == 3
