"""Postprocess's way back to the engine: every key arrives, and an engine that is gone is no error."""

import queue
from pathlib import Path

import pytest

from python_backend.backchannel import AbortListener, AbortSender

HANG_S = 10


@pytest.fixture(params=["aborts.sock", "x" * 90 + "/" + "y" * 90 + "/aborts.sock"], ids=["short path", "long path"])
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return tmp_path / str(request.param)


def test_every_key_arrives_in_order(path: Path) -> None:
    aborted: queue.Queue[int] = queue.Queue()
    lags: queue.Queue[float] = queue.Queue()
    listener, sender = AbortListener(path, aborted.put, lags.put), AbortSender(path)
    keys = [0, 1, 2**64 - 1, *range(500)]
    for key in keys:
        sender.send(key)
    assert [aborted.get(timeout=HANG_S) for _ in keys] == keys
    sender.lag(1.5)
    assert lags.get(timeout=HANG_S) == 1.5
    listener.close()
    sender.close()


def test_an_engine_that_is_not_there_is_no_error(path: Path) -> None:
    sender = AbortSender(path)
    sender.send(1)  # not even its folder
    listener = AbortListener(path, lambda key: None, lambda lag: None)
    listener.close()
    assert not path.exists()
    sender.send(2)
    sender.close()


def test_an_engine_that_came_back_is_reached_by_the_same_sender(path: Path) -> None:
    sender = AbortSender(path)
    AbortListener(path, lambda key: None, lambda lag: None)  # dies without a goodbye
    aborted: queue.Queue[int] = queue.Queue()
    lags: queue.Queue[float] = queue.Queue()
    listener = AbortListener(path, aborted.put, lags.put)
    sender.send(7)
    assert aborted.get(timeout=HANG_S) == 7
    listener.close()
    sender.close()


def test_only_its_owner_may_send(path: Path) -> None:
    listener = AbortListener(path, lambda key: None, lambda lag: None)
    assert path.stat().st_mode & 0o777 == 0o600
    listener.close()


def test_an_engine_that_does_not_listen_does_not_stop_postprocess(path: Path) -> None:
    """A full socket costs at most the sender's timeout a key; nothing is raised."""
    stuck: queue.Queue[None] = queue.Queue()
    listener, sender = AbortListener(path, lambda key: stuck.get(timeout=HANG_S), lambda lag: None), AbortSender(path)
    for key in range(20):
        sender.send(key)
    for _ in range(20):
        stuck.put(None)
    listener.close()
    sender.close()
