"""The outbox: the first token is never held, later ones travel together, and every stream gets its end."""

import itertools
import queue
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.cores import cores
from contract.engines.kinds import KINDS
from contract.errors import DeadlineExceeded, EngineFailed, from_wire
from contract.sections import Streaming
from contract.tensors import FinishReason
from contract.wire import Delivery, EngineDelta, Opening
from python_backend.budget import Budget
from python_backend.outbox import Outbox, held_s
from python_backend.protocol import Output

HANG_S = 10
PATIENT = Streaming(max_responses_per_s=1, max_interval_ms=60_000)  # holds what it may for a minute
EAGER = Streaming(max_responses_per_s=1_000_000, max_interval_ms=0)
STREAMED = Opening(num_input_tokens=3, delivery=Delivery(stream=True))
WHOLE = Opening(num_input_tokens=3)


class Client:
    """One stream's receiving end."""

    def __init__(self) -> None:
        self.deltas: queue.Queue[EngineDelta] = queue.Queue()

    def next(self) -> EngineDelta:
        return self.deltas.get(timeout=HANG_S)

    def next_news(self) -> EngineDelta:
        """The next delta that is no heartbeat."""
        while not ((delta := self.next()).ids or delta.finish):
            pass
        return delta

    def rest(self) -> list[EngineDelta]:
        """Every delta up to the last."""
        deltas = [self.next()]
        while not deltas[-1].finish:
            deltas.append(self.next())
        return deltas


class Desk:
    """An outbox with numbered clients; ``aborted`` is what it asked the engine to stop."""

    def __init__(self, policy: Streaming) -> None:
        self.aborted: list[int] = []
        self.outbox = Outbox(policy, self.aborted.append, Budget(policy, KINDS["openvino"]))
        self._keys = itertools.count(1)

    def open(
        self, opening: Opening = STREAMED, interval_ms: int = 0, deadline_ns: int = 0, *, mute: bool = False
    ) -> tuple[int, Client]:
        key, client = next(self._keys), Client()
        self.outbox.open(key, client.deltas.put, opening, interval_ms, deadline_ns, mute=mute)
        return key, client

    def settle(self) -> None:
        """Return once the outbox has looked at everything pushed so far: a new stream's first token is out."""
        key, client = self.open()
        self.outbox.push([Output(key, [0], finish=FinishReason.STOP)])
        client.rest()

    def __enter__(self) -> "Desk":
        return self

    def __exit__(self, *_: object) -> None:
        self.outbox.close()


def test_of_a_mute_stream_only_the_prompt_is_told() -> None:
    with Desk(EAGER) as desk:
        key, client = desk.open(mute=True)
        desk.outbox.push([Output(key, prompt_log_probs=[-1.0, -2.0])])
        desk.outbox.push([Output(key, [7], [-0.5], finish=FinishReason.STOP, cached_tokens=0)])
        deltas = client.rest()
    assert [value for delta in deltas for value in delta.prompt_log_probs] == [-1.0, -2.0]
    assert not any(delta.ids or delta.log_probs for delta in deltas)
    assert (deltas[-1].finish, deltas[-1].cached_tokens) == (FinishReason.LENGTH, 0)


def test_the_first_token_is_not_held_and_later_ones_travel_together() -> None:
    with Desk(PATIENT) as desk:
        key, client = desk.open()
        desk.outbox.push([Output(key, [1])])
        first = client.next_news()
        assert (first.ids, first.finish) == ([1], "")
        for token in (2, 3, 4):
            desk.outbox.push([Output(key, [token], log_probs=[-0.5])])
        desk.settle()
        assert client.deltas.empty()
        desk.outbox.push([Output(key, [5], finish=FinishReason.LENGTH)])
        last = client.next()
        assert (last.ids, last.finish, last.log_probs) == ([2, 3, 4, 5], "length", [-0.5] * 3)
        assert len(desk.outbox) == 0


def test_the_opening_comes_once_and_first() -> None:
    with Desk(EAGER) as desk:
        key, client = desk.open()
        desk.settle()
        desk.outbox.push([Output(key, [1])])
        desk.outbox.push([Output(key, [2], finish=FinishReason.STOP)])
        first, *others = client.rest()
        assert first.opening == STREAMED
        assert all(delta.opening is None for delta in others)


def test_a_silent_stream_has_a_heartbeat() -> None:
    """Before prefill and in the middle: only a response lets Triton say that the client left."""
    with Desk(PATIENT) as desk:
        _, client = desk.open()
        heartbeats = [client.next(), client.next()]
        assert [(delta.ids, delta.finish) for delta in heartbeats] == [([], ""), ([], "")]
        assert heartbeats[0].opening == STREAMED


def test_a_whole_answer_is_one_delta_after_its_first() -> None:
    with Desk(EAGER) as desk:
        key, client = desk.open(WHOLE)
        desk.outbox.push([Output(key, [1])])
        assert client.next_news().ids == [1]
        for token in range(2, 50):
            desk.outbox.push([Output(key, [token])])
        desk.outbox.push([Output(key, [50], finish=FinishReason.STOP)])
        assert _ids(client.rest()) == list(range(2, 51))


def test_a_clients_own_interval_is_kept() -> None:
    with Desk(EAGER) as desk:
        key, client = desk.open(interval_ms=60_000)
        desk.outbox.push([Output(key, [1])])
        assert client.next_news().ids == [1]
        desk.outbox.push([Output(key, [2])])
        desk.settle()
        assert client.deltas.empty()


@pytest.mark.parametrize("begun", [False, True], ids=["before its first token", "in the middle"])
def test_a_deadline_ends_the_stream_and_stops_the_engine(begun: bool) -> None:
    with Desk(EAGER) as desk:
        key, client = desk.open(deadline_ns=time.time_ns() + 50_000_000)
        if begun:
            desk.outbox.push([Output(key, [1])])
        last = client.rest()[-1]
        assert last.finish == FinishReason.ERROR
        error = from_wire(last.error)
        assert isinstance(error, DeadlineExceeded)
        assert error.field == "timeout_ms"
        assert desk.aborted == [key]
        assert len(desk.outbox) == 0
        desk.outbox.push([Output(key, [2]), Output(key, finish=FinishReason.CANCELLED)])  # the engine was not done
        desk.settle()
        assert client.deltas.empty()


def test_a_failed_engine_is_told_as_such() -> None:
    with Desk(PATIENT) as desk:
        key, client = desk.open()
        desk.outbox.push([Output(key, [1], finish=FinishReason.ERROR, error=EngineFailed("it broke").to_wire())])
        last = client.rest()[-1]
        assert last.finish == FinishReason.ERROR
        error = from_wire(last.error)
        assert isinstance(error, EngineFailed)
        assert "it broke" in str(error)


def test_a_dropped_stream_hears_nothing() -> None:
    with Desk(EAGER) as desk:
        key, client = desk.open()
        desk.outbox.drop(key)
        desk.outbox.drop(key)
        desk.outbox.push([Output(key, [1])])
        desk.settle()
        assert client.deltas.empty()
        assert len(desk.outbox) == 0


@given(
    interval_ms=st.integers(0, 300),
    step_ms=st.integers(1, 100),
    max_itl_ms=st.integers(0, 100),
)
def test_deltas_leave_with_the_nearest_step_or_within_the_itl(interval_ms: int, step_ms: int, max_itl_ms: int) -> None:
    """Of an even engine: a stream's delta leaves with its first step at which the last is so old."""
    held_ms = 1000 * held_s(interval_ms / 1000, step_ms / 1000, max_itl_ms / 1000)
    gap_ms = next(at for at in itertools.count(step_ms, step_ms) if at >= held_ms - 1e-6)
    nearest = abs(gap_ms - interval_ms) <= step_ms / 2 + 1e-6
    assert nearest or gap_ms == step_ms or interval_ms <= max_itl_ms
    if interval_ms <= max_itl_ms:
        assert gap_ms <= max(step_ms, max_itl_ms)


def test_cores_are_those_that_a_quota_leaves(tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    pinned = cores(tmp_path / "none")
    for said, left in (("max 100000", pinned), ("100000 100000", 1), ("10000 100000", 1), ("99900000 100000", pinned)):
        quota.write_text(said)
        assert cores(quota) == left


def test_deltas_grow_while_postprocess_is_behind() -> None:
    with Desk(EAGER) as desk:
        key, client = desk.open()
        desk.outbox.push([Output(key, [1])])
        assert client.next_news().ids == [1]
        for _ in range(40):
            desk.outbox.pressure.told(1.0)
        for token in range(2, 10):
            desk.outbox.push([Output(key, [token])])
        desk.settle()
        assert client.deltas.empty()
        for _ in range(40):
            desk.outbox.pressure.told(0.0)
        desk.outbox.push([Output(key, [10])])
        assert client.next_news().ids == list(range(2, 11))
        desk.outbox.push([Output(key, [11])])
        assert client.next_news().ids == [11]
        desk.outbox.push([Output(key, [12], finish=FinishReason.STOP)])
        client.rest()


def _ids(deltas: list[EngineDelta]) -> list[int]:
    return [token for delta in deltas for token in delta.ids]


_answers = st.lists(st.lists(st.integers(0, 99), max_size=4), min_size=1, max_size=12)


@given(answers=st.lists(_answers, min_size=1, max_size=5), policy=st.sampled_from([PATIENT, EAGER]))
@settings(max_examples=40, deadline=None)
def test_nothing_is_lost_or_reordered(answers: list[list[list[int]]], policy: Streaming) -> None:
    """Whatever a step brings to whichever stream, each stream's deltas joined are its tokens in order."""
    with Desk(policy) as desk:
        streams = [desk.open() for _ in answers]
        for step in itertools.count():
            going = [(key, answer) for (key, _), answer in zip(streams, answers, strict=True) if step < len(answer)]
            if not going:
                break
            desk.outbox.push(
                [
                    Output(key, answer[step], finish=FinishReason.STOP if step == len(answer) - 1 else None)
                    for key, answer in going
                ]
            )
        for (_, client), answer in zip(streams, answers, strict=True):
            assert _ids(client.rest()) == list(itertools.chain(*answer))
        assert len(desk.outbox) == 0
