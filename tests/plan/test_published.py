"""What the shapes say against what the models' makers and others have published or measured."""

import math
from collections import Counter
from typing import Any

import pytest

from build.plan.layout import Layout
from build.plan.machines import GIB, parse_machines
from build.plan.memory import Demand, memory_of, token_bytes
from build.plan.quantization import own, stored
from contract.errors import BuildError
from contract.gpus import USABLE
from tests.plan.models import FP8, R1_CONTEXT, R1_LISTED, config_of, load_of, path_of, plan_of

# Parameters in each repository's safetensors files, as the hub counts them, without copied heads and MTP modules.
PARAMETERS = {
    "deepseek-r1": 671_026_419_200,
    "deepseek-v2-lite": 15_706_484_224,
    "gemma-2-9b": 9_241_705_984,
    "gemma-3-1b": 999_885_952,
    "gpt-oss-120b": 116_829_156_672,
    "gpt-oss-20b": 20_914_757_184,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-8b": 8_030_261_248,
    "mistral-7b-v0.1": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-0.6b": 596_049_920,
    "qwen3-235b-a22b": 235_093_634_560,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-32b": 32_762_123_264,
}
DEMAND = Demand(8192, 4096, 256, 8192)


def test_every_model_here_has_its_count() -> None:
    assert {path.stem for path in path_of("x").parent.glob("*.json")} == PARAMETERS.keys()


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name: str) -> None:
    assert load_of(name).shapes.parameters() == PARAMETERS[name]


@pytest.mark.parametrize(
    ("name", "billions"),
    # DeepSeek and Qwen count the embedding, of which a token reads one row, too: 36.7, 22 and 3 with it.
    [("deepseek-r1", 36.6), ("mixtral-8x7b", 12.7), ("qwen3-235b-a22b", 21.6), ("qwen3-30b-a3b", 3.0)],
)
def test_parameters_that_a_token_meets(name: str, billions: float) -> None:
    assert load_of(name).shapes.active() / 1e9 == pytest.approx(billions, abs=0.06)


def test_deepseek_r1_number_by_number() -> None:
    """The hub's count of the 163 files by dtype: the MTP module, its copies of embedding and head, and all scales."""
    config = config_of("deepseek-r1")
    numbers: Counter[str] = Counter()
    for weight in load_of("deepseek-r1").shapes.weights:
        for tensor in stored(weight, own(config)):
            numbers[tensor.dtype] += math.prod(tensor.shape) * tensor.count
    assert numbers == {"BF16": 3_918_786_560, "F8_E4M3": 680_571_043_840, "F32": 41_555_600}


def test_deepseek_r1_in_bytes() -> None:
    """671 GB are its parameters at a byte each; what stays in 16 bits and the scales add 2, the MTP module 15."""
    load = load_of("deepseek-r1")
    assert load.total == 673_150_611_808
    assert load.mtp_bytes == 15_424_227_552
    # The files' 688,586,727,753 bytes are these and the safetensors headers, 130 bytes for each of 91,991 tensors.
    assert 688_586_727_753 - load.total - load.mtp_bytes == pytest.approx(91_991 * 130, rel=0.01)
    # In a tenth less than the memory of a cluster, which is what a server takes of it: the 750 GB that people name.
    assert load.total / USABLE == pytest.approx(750e9, rel=0.005)
    cast = load_of("deepseek-r1", quantization_config=None)
    assert cast.total == pytest.approx(1.342e12, rel=0.001)
    assert cast.total + cast.mtp_bytes < 1.4e12


def test_gpt_oss_in_bytes() -> None:
    """MXFP4: the total_size of both indexes."""
    assert load_of("gpt-oss-120b").total == 65_248_815_744
    assert load_of("gpt-oss-20b").total == 13_761_264_768


# What SGLang's guide does not list, because it is too small.
TOO_SMALL = {
    "FP8, as published": ("h100x8", "h800x8", "h200x4", "h20x8"),
    "BF16, cast from it": ("h200x8", "a100x8x2", "a800x8x2", "h20x8x2"),
    "INT8 in blocks": ("a100x8",),
    "AWQ, 4 bits": ("a100x4", "h100x4", "h20x4"),
}


@pytest.mark.parametrize(("weights", "changes", "listed"), R1_LISTED)
def test_what_fits_where(weights: str, changes: dict[str, Any], listed: tuple[str, ...]) -> None:
    """With room for a request as long as the whole context, which is what a server asks for that is told no less."""
    for gpus in listed:
        assert plan_of("deepseek-r1", gpus, length=R1_CONTEXT, **changes).best.fits, gpus
    for gpus in TOO_SMALL[weights]:
        with pytest.raises(BuildError, match=" does not fit "):
            plan_of("deepseek-r1", gpus, length=R1_CONTEXT, **changes)


def test_fp8_weights_on_gpus_without_are_planned_as_bf16() -> None:
    plan = plan_of("deepseek-r1", "a100x8x4")
    assert plan.load.scheme.name == "bf16"
    assert "a100 is sm80 and has no FP8" in plan.notes[0]


@pytest.mark.parametrize(
    ("name", "bytes_a_token"),
    [("deepseek-r1", 70_272), ("llama-3.1-8b", 131_072), ("llama-3.1-70b", 327_680), ("qwen3-32b", 262_144)],
)
def test_cache_of_a_token(name: str, bytes_a_token: int) -> None:
    assert token_bytes(load_of(name), DEMAND) == bytes_a_token


def test_cache_of_a_gpu_as_two_servers_measured_it() -> None:
    """Qwen3-235B-A22B-FP8 on four H100 (vllm-project/vllm issue 21348): the tokens that each had room for."""
    load = load_of("qwen3-235b-a22b", quantization_config=FP8)
    memory = memory_of(load, Layout(4), parse_machines("h100x4"), DEMAND)
    assert 8.11 * GIB / memory.per_token == pytest.approx(178_880, rel=0.02)  # vLLM
    assert 2 * 8.23 * GIB / memory.per_token == pytest.approx(367_404, rel=0.01)  # SGLang
