"""Quotas without a gateway: what is charged and put back, and that to come back when told is enough."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import InvalidRequest
from contract.quota import Quota
from gateway.quota import Quotas
from gateway.standing import Allowance, ComeBack, Standing, headers_of, seconds_told
from tests.gateway.test_admission import Clock


def quotas(clock: Clock, requests: int = 0, tokens: int = 0) -> Quotas:
    return Quotas({"ann": Quota(requests_per_minute=requests, tokens_per_minute=tokens)}, clock)


def test_a_minutes_worth_may_come_at_once_and_the_next_when_told() -> None:
    clock = Clock()
    door = quotas(clock, requests=60)
    for _ in range(60):
        door.charge("ann", 10)
    with pytest.raises(ComeBack, match="the quota of key ann is 60 requests a minute") as refused:
        door.charge("ann", 10)
    assert refused.value.retry_after_s == pytest.approx(1)
    assert refused.value.standing == Standing(Allowance(60, 0, 60.0), None)
    clock.now += 1
    door.charge("ann", 10)


def test_a_refusal_charges_neither_kind() -> None:
    clock = Clock()
    door = quotas(clock, requests=60, tokens=100)
    door.charge("ann", 100)
    with pytest.raises(ComeBack, match="100 tokens a minute, of which too few are left") as refused:
        door.charge("ann", 50)
    assert refused.value.retry_after_s == pytest.approx(30)
    standing = door.standing("ann")
    assert standing and standing.requests
    assert standing.requests.remaining == 59


def test_what_was_not_used_comes_back_and_what_was_more_is_owed() -> None:
    clock = Clock()
    door = quotas(clock, tokens=600)
    door.charge("ann", 500)
    door.settle("ann", 500 - 100)
    assert door.standing("ann") == Standing(None, Allowance(600, 500, 10.0))
    door.charge("ann", 500)
    door.settle("ann", 500 - 600)
    with pytest.raises(ComeBack) as refused:
        door.charge("ann", 1)
    assert refused.value.retry_after_s == pytest.approx(10.1)


def test_more_than_a_minute_holds_is_never_possible() -> None:
    door = quotas(Clock(), tokens=100)
    with pytest.raises(InvalidRequest, match="may come to 101 tokens, the quota of key ann is 100 a minute") as refused:
        door.charge("ann", 101)
    assert refused.value.field == "max_tokens"
    door.charge("ann", 100)


def test_others_have_the_default_each_one_of_its_own() -> None:
    named = {"ann": Quota(priority="batch"), "default": Quota(requests_per_minute=1)}
    door = Quotas(named, Clock())
    for key in ("bob", "eve", ""):
        door.charge(key, 1)
        with pytest.raises(ComeBack):
            door.charge(key, 1)
    for _ in range(9):
        door.charge("ann", 1)
    assert door.is_batch("ann")
    assert not door.is_batch("bob")
    assert door.standing("ann") is None


@given(
    st.integers(1, 5000),
    st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 90), st.integers(0, 6000)), max_size=30),
)
def test_who_comes_back_when_told_is_let_in_and_gets_no_more(size: int, asked: list[tuple[int, float, int]]) -> None:
    clock = Clock()
    began = clock.now
    door = quotas(clock, tokens=size)
    used = 0
    for amount, pause_s, really in asked:
        clock.now += pause_s
        if amount > size:
            continue
        try:
            door.charge("ann", amount)
        except ComeBack as refused:
            clock.now += refused.retry_after_s
            door.charge("ann", amount)
        door.settle("ann", amount - min(really, amount))
        used += min(really, amount)
        assert used <= size + size * (clock.now - began) / 60 + 1e-3


@pytest.mark.parametrize(
    ("reset_s", "told"), [(0, "0s"), (0.0123, "13ms"), (1, "1s"), (8.6399, "8.64s"), (60, "1m0s"), (72.5, "1m12.5s")]
)
def test_headers_are_openais(reset_s: float, told: str) -> None:
    standing = Standing(Allowance(60, 59, reset_s), Allowance(1000, 7, 0))
    assert dict(headers_of(standing, anthropic=False)) == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"59",
        b"x-ratelimit-reset-requests": told.encode(),
        b"x-ratelimit-limit-tokens": b"1000",
        b"x-ratelimit-remaining-tokens": b"7",
        b"x-ratelimit-reset-tokens": b"0s",
    }


@given(st.floats(0, 600))
def test_retry_after_is_never_early(seconds: float) -> None:
    assert seconds_told(seconds) >= seconds
    assert seconds_told(seconds) <= max(1, math.ceil(seconds))
