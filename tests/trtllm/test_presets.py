"""Each preset suits the model and the GPUs that it names, by the sizes that the models' own config.json have."""

from pathlib import Path
from typing import Any

import pytest

from build.trtllm.fit import Model, check_model, read_model, sizes
from contract.gpus import GPUS
from contract.spec import load_spec
from tests.trtllm.wrong import Wrong, refusal

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
_BLOCKS = {"quant_method": "fp8", "weight_block_size": [128, 128]}


def _sizes(
    architecture: str, heads: tuple[int, int], layers: int, inner: int, context: int, **more: Any
) -> dict[str, Any]:
    return {
        "architectures": [architecture],
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "num_hidden_layers": layers,
        "intermediate_size": inner,
        "max_position_embeddings": context,
        "head_dim": 128,
        **more,
    }


_QWEN_32B = _sizes("Qwen2ForCausalLM", (40, 8), 64, 27648, 131072)
# Preset → what its config.json says, and the bytes of its weights.
MODELS: dict[str, tuple[dict[str, Any], float]] = {
    "qwen3-0.6b": (_sizes("Qwen3ForCausalLM", (16, 8), 28, 3072, 40960), 1.5e9),
    "qwen2-7b": (_sizes("Qwen2ForCausalLM", (28, 4), 28, 18944, 32768), 15.2e9),
    "qwq-32b": (_QWEN_32B | {"max_position_embeddings": 40960}, 65.5e9),
    "deepseek-r1-distill-qwen-32b": (_QWEN_32B, 65.5e9),
    "deepseek-r1-distill-llama-70b": (_sizes("LlamaForCausalLM", (64, 8), 80, 28672, 131072), 141e9),
    "qwen3-30b-a3b": (
        _sizes("Qwen3MoeForCausalLM", (32, 4), 48, 6144, 40960, num_experts=128, moe_intermediate_size=768),
        61e9,
    ),
    "qwen3-235b-a22b": (
        _sizes(
            "Qwen3MoeForCausalLM",
            (64, 4),
            94,
            12288,
            40960,
            num_experts=128,
            moe_intermediate_size=1536,
            quantization_config=_BLOCKS,
        ),
        236e9,
    ),
    "deepseek-r1": (
        _sizes(
            "DeepseekV3ForCausalLM",
            (128, 128),
            61,
            18432,
            163840,
            n_routed_experts=256,
            moe_intermediate_size=2048,
            kv_lora_rank=512,
            qk_rope_head_dim=64,
            quantization_config=_BLOCKS,
        ),
        689e9,
    ),
}
PRESETS = {
    name.removesuffix("-trtllm"): CONFIGS / f"{name}.yaml"
    for name in sorted(path.stem for path in CONFIGS.glob("*-trtllm.yaml"))
}


def test_every_preset_is_known_here() -> None:
    assert PRESETS.keys() == MODELS.keys()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_suits_its_model_and_its_gpus(name: str, tmp_path: Path) -> None:
    config, weights = MODELS[name]
    refusal(Wrong("", "", model=config, weights=int(weights)), tmp_path)  # writes the checkpoint's JSON files
    checkpoint = tmp_path / "checkpoint"
    spec = load_spec(PRESETS[name])
    check_model(checkpoint, spec)

    gpu = spec.engine.trtllm.gpu
    assert gpu
    model: Model = read_model(checkpoint)
    on_each, longest = sizes(model, spec)
    room = GPUS[gpu].memory_gib * 2**30 * 0.9 - on_each
    assert room / longest >= 4  # at least four of the longest requests at once
