"""Which TP × PP × EP there can be, and that no byte is lost or doubled on the way to the GPUs."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build.plan.layout import Layout, candidates
from build.plan.machines import parse_machines
from build.plan.memory import Demand, largest_batch, memory_of, request_bytes
from build.plan.traffic import traffic_of
from build.plan.weights import Part
from tests.plan.models import AWQ, FP8, load_of, plan_of

DEMAND = Demand(8192, 4096, 256, 8192)


@pytest.mark.parametrize(
    ("name", "changes", "layout", "said"),
    [
        ("qwen2.5-7b", {}, Layout(8), "TP 8 does not divide 28 heads"),
        ("qwen3-32b", {"num_key_value_heads": 6}, Layout(4), "TP 4 neither divides 6 key-value heads nor"),
        ("llama-3.1-8b", {}, Layout(1, 64), "PP 64 is more than 32 layers"),
        ("gemma-3-1b", {}, Layout(4, 1, 4), "EP without experts"),
        ("mixtral-8x7b", {}, Layout(16, 1, 16), "EP 16 does not divide 8 experts"),
        ("mixtral-8x7b", {}, Layout(4, 1, 3), "EP 3 does not divide TP 4"),
        ("qwen3-30b-a3b", {"moe_intermediate_size": 100}, Layout(8), "TP 8 does not divide experts 100 wide"),
        ("llama-3.1-8b", {"intermediate_size": 14330}, Layout(4), "TP 4 does not divide an MLP 14330 wide"),
        # The best known of them: Qwen's FP8 experts on eight GPUs, which need EP.
        (
            "qwen3-235b-a22b",
            {"quantization_config": FP8},
            Layout(8),
            "experts 1536 wide over 8 GPUs are 192 each, no whole blocks of 128 (fp8_block)",
        ),
        # And of AWQ: Qwen2.5-72B's MLP.
        (
            "qwen2.5-7b",
            {"quantization_config": AWQ, "intermediate_size": 29568},
            Layout(2),
            "mlp 29568 wide over 2 GPUs are 14784 each, no whole blocks of 128 (int4_awq)",
        ),
    ],
)
def test_what_cannot_be(name: str, changes: dict[str, Any], layout: Layout, said: str) -> None:
    assert said in "\n".join(load_of(name, **changes).faults(layout))


def test_experts_in_blocks_go_by_ep() -> None:
    load = load_of("qwen3-235b-a22b", quantization_config=FP8)
    assert not list(load.faults(Layout(8, 1, 8)))
    assert not list(load.faults(Layout(4)))


def test_key_value_heads_are_copied_where_gpus_outnumber_them() -> None:
    """Qwen3-235B has four: on eight GPUs each has a whole one, as on four."""
    load = load_of("qwen3-235b-a22b")
    of = {tensor: request_bytes(load, DEMAND, Layout(tensor), range(94), 1000) for tensor in (1, 4, 8)}
    assert of[1] == 4 * of[4] == 4 * of[8]
    four, eight = (load.on_gpu(Layout(tensor), range(94))[Part.ATTENTION] for tensor in (4, 8))
    assert four / 2 < eight < four


def test_a_compressed_cache_is_on_every_gpu_unless_attention_goes_by_data() -> None:
    load, machines = load_of("deepseek-r1"), parse_machines("h200x8")
    by_tensor, by_data = Layout(8, 1, 8), Layout(8, 1, 8, attention_dp=True)
    for layout in (by_tensor, by_data):
        assert memory_of(load, layout, machines, DEMAND).per_token == 70_272
    whole = load.parts()[Part.ATTENTION]
    assert load.on_gpu(by_tensor, range(61))[Part.ATTENTION] < whole / 4
    assert load.on_gpu(by_data, range(61))[Part.ATTENTION] == whole
    assert largest_batch(load, by_data, machines, DEMAND, 8192) > 4 * largest_batch(
        load, by_tensor, machines, DEMAND, 8192
    )


@given(st.sampled_from(["llama-3.1-8b", "qwen3-30b-a3b", "deepseek-v2-lite", "gemma-2-9b", "gpt-oss-20b"]), st.data())
def test_the_stages_have_every_weight_once(name: str, data: st.DataObject) -> None:
    load = load_of(name)
    pipeline = data.draw(st.integers(1, load.shapes.layers))
    layout = Layout(1, pipeline)
    stages = load.stages(layout)
    assert [layer for stage in stages for layer in stage] == list(range(load.shapes.layers))
    assert max(map(len, stages)) - min(map(len, stages)) <= 1
    there = sum(sum(load.on_gpu(layout, stage).values()) for stage in stages)
    again = load.parts()[Part.EMBEDDING] if load.shapes.tied and pipeline > 1 else 0  # the last stage's head
    assert there == load.total + again


@given(st.sampled_from(["llama-3.1-70b", "mixtral-8x7b", "deepseek-r1"]), st.sampled_from([2, 4, 8]))
def test_tensor_parallelism_divides_all_but_what_is_copied(name: str, tensor: int) -> None:
    load = load_of(name)
    on_each = sum(load.on_gpu(Layout(tensor), range(load.shapes.layers)).values())
    assert on_each * tensor == pytest.approx(load.total + load.copied() * (tensor - 1))


def test_a_window_bounds_the_cache() -> None:
    """Gemma 3: of 26 layers 4 keep everything, the others 512 tokens."""
    load = load_of("gemma-3-1b")
    short, long = (request_bytes(load, DEMAND, Layout(), range(26), length) for length in (512, 8192))
    assert short == 26 * 512 * 1024
    assert long == (22 * 512 + 4 * 8192) * 1024
    mistral = load_of("mistral-7b-v0.1")
    four, eight = (request_bytes(mistral, DEMAND, Layout(), range(32), length) for length in (4096, 8192))
    assert four == eight


def test_qwens_window_is_off_unless_it_is_switched_on() -> None:
    windows = {
        on: sum(
            bool(cache.window)
            for cache in load_of("qwen2.5-7b", use_sliding_window=on, max_window_layers=20).shapes.caches
        )
        for on in (False, True)
    }
    assert windows == {False: 0, True: 8}


def test_a_cache_in_fp8_holds_twice_the_requests() -> None:
    load, machines = load_of("llama-3.1-70b"), parse_machines("h100x4")
    once = largest_batch(load, Layout(4), machines, DEMAND, 8192)
    assert largest_batch(load, Layout(4), machines, replace(DEMAND, cache="fp8"), 8192) in (2 * once, 2 * once + 1)


def test_what_the_gpus_tell_each_other() -> None:
    machines = parse_machines("h100x8x2")
    llama = traffic_of(load_of("llama-3.1-70b"), Layout(8), machines)
    # Twice a layer, each GPU sends 2 × 7/8 of a vector of 8192 numbers.
    assert llama.all_reduce == 80 * 2 * 8192 * 2 * 2 * 7 / 8
    assert (llama.all_to_all, llama.point_to_point, llama.network) == (0, 0, False)
    wide = traffic_of(load_of("llama-3.1-70b"), Layout(16), machines)
    assert wide.network
    split = traffic_of(load_of("llama-3.1-70b"), Layout(8, 2), machines)
    assert split.all_reduce == llama.all_reduce / 2
    assert (split.point_to_point, split.network, split.stages_network) == (2 * 8192 * 2, False, True)


def test_experts_by_data_exchange_tokens() -> None:
    """DeepSeek: to 8 experts in FP8 and back in BF16, in 58 layers; 7 of 8 experts are elsewhere."""
    links = traffic_of(load_of("deepseek-r1"), Layout(8, 1, 8, attention_dp=True), parse_machines("h200x8"))
    assert links.all_to_all == pytest.approx(58 * 8 * 7168 * (1 + 2) * 7 / 8)
    assert links.all_reduce == pytest.approx(3 * 7168 * 2 * 2 * 7)  # the three dense layers gather and scatter


def test_candidates_fill_the_gpus() -> None:
    layouts = list(candidates(load_of("deepseek-r1").shapes, 8))
    assert all(8 % layout.gpus == 0 for layout in layouts)
    assert Layout(8, 1, 8, attention_dp=True) in layouts and Layout(2, 4) in layouts
    dense = list(candidates(load_of("qwen3-32b").shapes, 8))
    assert {layout.expert for layout in dense} == {1}


def test_the_best_keeps_tensor_parallelism_in_the_machine() -> None:
    assert plan_of("deepseek-r1", "h200x8").best.layout == Layout(8)
    assert plan_of("deepseek-r1", "a100x8x4").best.layout == Layout(8, 4)
    assert plan_of("qwen3-32b", "h100x4").best.layout == Layout(4)


def test_the_best_of_a_small_model_is_many_copies_until_long_requests_want_the_room() -> None:
    short, long = (plan_of("llama-3.1-8b", "h100x8", length=length).best for length in (768, 8192))
    assert (short.layout, short.copies) == (Layout(1), 8)
    assert long.layout.tensor > 1
