"""The bet on a coin: fair, so that it seldom wins against a fair coin, and it wins soon against a bad one."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release.sequential import Tally


@given(st.integers(0, 200), st.integers(0, 200))
def test_the_bet_is_fair(yes: int, no: int) -> None:
    tally = Tally(yes, no)
    after = (tally.seen(True).capital + tally.seen(False).capital) / 2
    assert after == pytest.approx(tally.capital, rel=1e-9, abs=1e-300)


def test_a_fair_coin_seldom_alarms_however_long_one_looks() -> None:
    coin = random.Random(7)
    alarms = sum(highest(coin, 0.5, 500) >= 20 for _ in range(500))
    assert alarms <= 0.05 * 500


@pytest.mark.parametrize(("chance", "looks"), [(1.0, 14), (0.8, 80), (0.7, 250)])
def test_a_bad_coin_is_found(chance: float, looks: int) -> None:
    coin = random.Random(7)
    found = sum(highest(coin, chance, looks) >= 20 for _ in range(100))
    assert found >= 90


def highest(coin: random.Random, chance: float, looks: int) -> float:
    """The most that the capital ever was."""
    tally, most = Tally(), 1.0
    for _ in range(looks):
        tally = tally.seen(coin.random() < chance)
        most = max(most, tally.capital)
    return most
