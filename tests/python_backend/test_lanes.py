"""Lanes: whoever sends, a stream's responses keep their order and none is left behind."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_backend.postprocess import lanes


@given(keys=st.lists(st.integers(0, 9), max_size=60), count=st.integers(0, 3))
def test_each_streams_order_is_kept(keys: list[int], count: int) -> None:
    sent: list[tuple[int, int]] = []
    desk = lanes.Lanes(count, lambda lag_s: None)
    for number, key in enumerate(keys):
        desk.put(key, lambda key=key, number=number: sent.append((key, number)), 0.0)  # type: ignore[misc]
    desk.close()
    assert sorted(number for _, number in sent) == list(range(len(keys)))
    for key in set(keys):
        own = [number for each, number in sent if each == key]
        assert own == sorted(own)


def test_a_small_machine_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "cores", lambda: 2)
    assert lanes.count() == 0
    monkeypatch.setattr(lanes, "cores", lambda: 16)
    assert lanes.count() == 2


@pytest.mark.parametrize("count", [0, 1])
def test_how_late_they_are_is_told(count: int) -> None:
    told: list[float] = []
    desk = lanes.Lanes(count, told.append)
    for _ in range(50):
        desk.put(1, lambda: None, time.monotonic() - 7)
    desk.close()
    assert 1 <= len(told) < 50
    assert told[0] >= 7
