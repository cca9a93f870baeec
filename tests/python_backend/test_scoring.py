"""Prompts scored beside OpenVINO's pipeline: one after the other, in pieces, and none that nobody waits for."""

import queue
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from contract.sampling import SamplingParams
from contract.spec import load_spec
from contract.tensors import FinishReason
from python_backend.openvino import scoring
from python_backend.openvino.engine import OpenVinoEngine
from python_backend.openvino.scoring import ScoringModel
from python_backend.protocol import Output
from tests.e2e.servers import CODE, DEFAULT

ENGINE = CODE / "engines" / "smollm2-135m" / "current"
PROMPT = [504, 3575, 282, 4649, 314]  # The capital of France is
LONG = PROMPT * 60


class Bench:
    """An engine that runs, and what it put out."""

    def __init__(self) -> None:
        self.engine = OpenVinoEngine(ENGINE, load_spec(DEFAULT))
        self.outputs: queue.Queue[Output] = queue.Queue()

    def sink(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            self.outputs.put(output)

    def submit(self, key: int, ids: list[int], **sampling: Any) -> None:
        self.engine.submit(key, ids, SamplingParams(**{"max_tokens": 1, "prompt_logprobs": 2} | sampling))

    def ended(self) -> Output:
        """The next output that ends its request."""
        while not (output := self.outputs.get(timeout=60)).finish:
            pass
        return output


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    made.engine.start(made.sink)
    yield made
    made.engine.stop()


@pytest.fixture(scope="module")
def model() -> ScoringModel:
    return ScoringModel(ENGINE, 1)


def test_pieces_make_no_difference(model: ScoringModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = model.scores(LONG[:100], 3, 0, lambda: True)
    monkeypatch.setattr(scoring, "_PIECE", 7)
    pieces = model.scores(LONG[:100], 3, 0, lambda: True)
    assert whole and pieces
    assert len(pieces.log_probs) == len(pieces.top) == 99
    assert pieces.log_probs == pytest.approx(whole.log_probs, abs=1e-3)
    assert [[each.token_id for each in tops] for tops in pieces.top[:9]] == [
        [each.token_id for each in tops] for tops in whole.top[:9]
    ]
    assert pieces.next[0].token_id == whole.next[0].token_id


def test_what_nobody_wants_any_more_ends_with_its_piece(model: ScoringModel) -> None:
    asked = iter([True, False])
    assert model.scores(LONG, 0, 0, lambda: next(asked)) is None
    assert list(asked) == []
    again = model.scores(PROMPT, 0, 0, lambda: True)  # and leaves nothing behind
    assert again and again.log_probs[0] == pytest.approx(-11.25, abs=0.5)


def test_one_token_has_a_next_one_alone(model: ScoringModel) -> None:
    found = model.scores(PROMPT[:1], 2, 2, lambda: True)
    assert found and (found.log_probs, found.top) == ([], []) and len(found.next) == 2


def test_requests_end_once_in_their_order(bench: Bench) -> None:
    for key in (1, 2, 3):
        bench.submit(key, LONG)
    assert bench.engine.stats().waiting == 3
    bench.engine.abort(2)
    bench.engine.abort(2)
    ends = [bench.ended() for _ in range(3)]
    assert {end.key: end.finish for end in ends} == {
        1: FinishReason.LENGTH,
        2: FinishReason.CANCELLED,
        3: FinishReason.LENGTH,
    }
    assert [end.key for end in ends if end.ids] == [1, 3]
    assert [len(end.prompt_log_probs) for end in ends if end.ids] == [len(LONG) - 1] * 2
    bench.submit(4, PROMPT, max_tokens=3, prompt_logprobs=0)
    first = bench.outputs.get(timeout=60)
    assert (len(first.prompt_log_probs), first.prompt_top_log_probs, first.ids) == (4, [], [])
    assert bench.ended().finish == FinishReason.LENGTH
    assert bench.outputs.empty()


def test_without_room_for_a_second_model_only_scoring_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "_COPIES", 1e6)
    bench.submit(1, PROMPT)
    failed = bench.ended()
    assert failed.finish == FinishReason.ERROR and "GiB, and this machine has less left" in failed.error
    bench.submit(2, PROMPT, prompt_logprobs=None)
    assert bench.ended().finish == FinishReason.LENGTH


def test_the_token_after_ends_as_any(bench: Bench) -> None:
    bench.submit(1, PROMPT, return_log_probs=True, logprobs=3)
    free = bench.ended()
    assert (len(free.ids), len(free.log_probs), len(free.top_log_probs[0])) == (1, 1, 3)
    bench.submit(2, PROMPT, stop_token_ids=(free.ids[0],))
    assert bench.ended().finish == FinishReason.STOP
    bench.submit(3, PROMPT, end_id=free.ids[0])
    assert bench.ended().finish == FinishReason.STOP
    bench.submit(4, PROMPT, end_id=free.ids[0], ignore_eos=True)
    assert bench.ended().finish == FinishReason.LENGTH
