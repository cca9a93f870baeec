"""Lanes: whoever sends, a stream's responses keep their order and none is left behind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_backend.postprocess import lanes


@given(keys=st.lists(st.integers(0, 9), max_size=60), count=st.integers(0, 3))
def test_each_streams_order_is_kept(keys: list[int], count: int) -> None:
    sent: list[tuple[int, int]] = []
    desk = lanes.Lanes(count)
    for number, key in enumerate(keys):
        desk.put(key, lambda key=key, number=number: sent.append((key, number)))  # type: ignore[misc]
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
