"""Which stage hangs, told from the counters on the metrics page."""

import pytest
from prometheus_client.samples import Sample

from contract.metrics_page import samples
from serving.canary import Progress, at_work


def page(preprocess: int, engine: int, postprocess: int, waiting: int = 0, deltas: int = 0) -> list[Sample]:
    return list(
        samples(
            "# TYPE nv_inference_request_success counter\n"
            f'nv_inference_request_success{{model="a_preprocess",version="1"}} {preprocess}\n'
            'nv_inference_request_success{model="b_preprocess",version="1"} 7\n'
            f'nv_inference_pending_request_count{{model="a_preprocess",version="1"}} {waiting}\n'
            f'nv_inference_pending_request_count{{model="a_postprocess",version="1"}} {deltas}\n'
            f'conch_engine_steps_total{{model="a"}} {engine}\n'
            f'conch_stream_deltas_total{{model="a"}} {postprocess}\n'
        )
    )


def test_a_stage_that_stands_still_is_named() -> None:
    progress = Progress("a", 0.0, page(1, 1, 1))
    progress.update(3.0, page(2, 2, 1))
    assert progress.stuck_for(4.9, 5.0) == []
    assert progress.stuck_for(5.0, 5.0) == ["postprocess"]


def test_heartbeats_do_not_vouch_for_the_engine() -> None:
    progress = Progress("a", 0.0, page(1, 1, 1))
    for second in range(1, 6):
        progress.update(second, page(2, 1, 1 + second))
    assert progress.stuck_for(5.0, 5.0) == ["engine"]


def test_an_engine_in_a_long_step_computes() -> None:
    progress = Progress("a", 0.0, page(1, 1, 1))
    for second in range(1, 6):
        progress.update(second, page(2, 1, 1 + second), 100 + second / 20)
    assert progress.stuck_for(6.0, 5.0) == []


def test_an_engine_that_looks_for_work_does_not_compute() -> None:
    progress = Progress("a", 0.0, page(1, 1, 1))
    for second in range(1, 6):
        progress.update(second, page(2, 1, 1 + second), 100 + second / 200)
    assert progress.stuck_for(5.0, 5.0) == ["engine"]


def test_preprocess_may_rest_once_it_has_moved() -> None:
    progress = Progress("a", 0.0, page(1, 1, 1))
    progress.update(1.0, page(2, 2, 2))
    progress.update(9.0, page(2, 9, 9))
    assert progress.stuck_for(10.0, 5.0) == []


def test_preprocess_must_have_moved() -> None:
    progress = Progress("a", 0.0, page(1, 1, 1))
    progress.update(5.0, page(1, 9, 9))
    assert progress.stuck_for(5.0, 5.0) == ["preprocess"]


def test_a_page_that_cannot_be_read_shows_no_movement() -> None:
    progress = Progress("a", 0.0, page(1, 1, 1))
    progress.update(5.0, [])
    assert progress.stuck_for(5.0, 5.0) == ["preprocess", "engine", "postprocess"]


@pytest.mark.parametrize(
    ("now", "works"),
    [
        (page(9, 99, 99), True),
        (page(1, 99, 99), True),  # one long stream
        (page(1, 99, 99, waiting=1), False),  # someone waits for preprocess
        (page(9, 1, 99), False),
        (page(1, 99, 1), True),  # clients of the engine's own stage
        (page(9, 99, 1, deltas=1), False),
        (page(2, 3, 3), False),  # a canary alone
        ([], False),
    ],
)
def test_no_canary_where_the_engine_is_at_work_and_no_stage_stands(now: list[Sample], works: bool) -> None:
    assert at_work("a", page(1, 1, 1), now) is works
    assert not at_work("a", [], now)
