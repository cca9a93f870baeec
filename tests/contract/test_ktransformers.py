"""KTransformers' options: what cannot work is refused before a weight is read."""

from typing import Any

import pytest
from pydantic import ValidationError

from contract.engines.sglang.ktransformers import Ktransformers, check_model
from contract.engines.told import values
from contract.errors import SpecError
from contract.sections import EngineSpec

GOOD = {"weight_path": "/models/experts", "num_gpu_experts": 8, "cpuinfer": 60}
DEEPSEEK = {"architectures": ["DeepseekV3ForCausalLM"], "n_routed_experts": 256}


def kt(**changed: Any) -> Ktransformers:
    return Ktransformers.model_validate(GOOD | changed)


def test_a_good_one_becomes_sglangs_arguments() -> None:
    check_model(kt(), DEEPSEEK)
    check_model(kt(num_gpu_experts=256), DEEPSEEK)
    assert values(kt(max_deferred_experts_per_token=2).arguments()) == {
        "kt_weight_path": "/models/experts",
        "kt_num_gpu_experts": 8,
        "kt_cpuinfer": 60,
        "kt_threadpool_count": 2,
        "kt_method": "AMXINT4",
        "kt_max_deferred_experts_per_token": 2,
    }


@pytest.mark.parametrize("missing", GOOD)
def test_what_sglang_would_miss_later(missing: str) -> None:
    with pytest.raises(ValidationError, match=missing):
        Ktransformers.model_validate({key: value for key, value in GOOD.items() if key != missing})


def test_a_numa_node_without_a_thread() -> None:
    with pytest.raises(ValidationError, match=r"cpuinfer \(2\) must not be below threadpool_count \(4\)"):
        kt(cpuinfer=2, threadpool_count=4)


def test_experts_are_shared_out_once() -> None:
    spread = {"runtime": "sglang", "precision": "bf16", "parallel": {"tensor": 2, "expert": 2}, "sglang": {"kt": GOOD}}
    with pytest.raises(ValidationError, match=r"parallel\.expert must be 1 with sglang\.kt"):
        EngineSpec.model_validate(spread)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"architectures": ["LlamaForCausalLM"]},
            r"engine\.sglang\.kt: LlamaForCausalLM has no experts .*Leave kt out",
        ),
        ({"num_experts": 4}, r"engine\.sglang\.kt\.num_gpu_experts: 8 are more than the 4 experts of a layer"),
    ],
)
def test_a_model_that_it_does_not_fit(config: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        check_model(kt(), config)
