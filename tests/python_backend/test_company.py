"""Requests that come together share a first step; who comes alone does not wait, but once after a group."""

import pytest

from python_backend.openvino.company import MOST_S, Company


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def company() -> tuple[Clock, Company]:
    clock = Clock()
    made = Company(clock)
    made.step_s = 0.01
    return clock, made


def group(clock: Clock, of: Company, size: int) -> float:
    """So many, a millisecond apart; how long the first would wait, had nobody come after it."""
    clock.now += 10
    of.arrive(idle=True)
    waits_s = of.wait_s()
    for _ in range(size - 1):
        clock.now += 0.001
        of.arrive(idle=False)
    assert of.wait_s() == 0.0 or size == 1
    return waits_s


def test_who_comes_alone_does_not_wait() -> None:
    clock, of = company()
    assert [group(clock, of, 1) for _ in range(3)] == [0.0, 0.0, 0.0]


def test_a_group_like_the_last_is_waited_for_until_it_is_whole() -> None:
    clock, of = company()
    assert group(clock, of, 4) == 0.0, "nothing is known yet"
    clock.now += 10
    of.arrive(idle=True)
    assert of.wait_s() == pytest.approx(0.01)
    for _ in range(2):
        clock.now += 0.001
        of.arrive(idle=False)
        assert of.wait_s() > 0
    of.arrive(idle=False)
    assert of.wait_s() == 0.0


def test_after_a_group_one_alone_waits_a_step_and_the_next_not_at_all() -> None:
    clock, of = company()
    group(clock, of, 4)
    assert group(clock, of, 1) > 0
    clock.now += 0.011
    assert of.wait_s() == 0.0
    assert group(clock, of, 1) == 0.0


def test_the_wait_is_a_step_and_never_long() -> None:
    clock, of = company()
    group(clock, of, 4)
    of.step_s = 3.0
    clock.now += 10
    of.arrive(idle=True)
    assert of.wait_s() <= MOST_S + 1e-9


def test_who_comes_to_a_busy_engine_begins_no_group() -> None:
    clock, of = company()
    group(clock, of, 4)
    clock.now += 10
    of.arrive(idle=False)
    of.arrive(idle=False)
    assert of.wait_s() == 0.0
    assert group(clock, of, 1) > 0, "the last group was of four"
