"""The plan's shapes against real checkpoints, tensor by tensor and byte by byte; and that it needs no torch itself."""

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from build.plan.architectures import FAMILIES, shapes_of
from build.plan.config import read_config
from build.plan.layout import Load
from build.plan.quantization import own, stored
from contract.errors import BuildError

_SIZES: dict[str, Any] = {
    "vocab_size": 160,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,  # not the hidden size over the heads
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
}
_LATENT = {
    "num_key_value_heads": 4,
    "head_dim": None,
    "moe_intermediate_size": 32,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 12,
    "n_group": 1,
    "topk_group": 1,
}
_MIXTURE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}

# Architecture, its config's class, and what of it differs.
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("LlamaForCausalLM", "LlamaConfig", {}),
    ("LlamaForCausalLM", "LlamaConfig", {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
    ("LlamaForCausalLM", "LlamaConfig", {"head_dim": None, "num_key_value_heads": None}),
    ("MistralForCausalLM", "MistralConfig", {"sliding_window": 64}),
    ("MixtralForCausalLM", "MixtralConfig", {"num_local_experts": 4}),
    ("Qwen2ForCausalLM", "Qwen2Config", {"head_dim": None}),
    ("Qwen3ForCausalLM", "Qwen3Config", {"tie_word_embeddings": True}),
    ("Qwen3ForCausalLM", "Qwen3Config", {"attention_bias": True}),
    ("Qwen3MoeForCausalLM", "Qwen3MoeConfig", _MIXTURE),
    ("Qwen3MoeForCausalLM", "Qwen3MoeConfig", _MIXTURE | {"mlp_only_layers": [0]}),
    ("Qwen3MoeForCausalLM", "Qwen3MoeConfig", _MIXTURE | {"decoder_sparse_step": 2}),
    ("DeepseekV2ForCausalLM", "DeepseekV2Config", _LATENT | {"q_lora_rank": None, "n_shared_experts": 2}),
    ("DeepseekV2ForCausalLM", "DeepseekV2Config", _LATENT | {"q_lora_rank": 24, "n_shared_experts": 2}),
    ("DeepseekV3ForCausalLM", "DeepseekV3Config", _LATENT | {"q_lora_rank": 24, "n_shared_experts": 1}),
    ("DeepseekV3ForCausalLM", "DeepseekV3Config", _LATENT | {"q_lora_rank": 24, "attention_bias": True}),
    ("Gemma2ForCausalLM", "Gemma2Config", {"tie_word_embeddings": True}),
    ("Gemma3ForCausalLM", "Gemma3TextConfig", {"tie_word_embeddings": True, "sliding_window": 16}),
    ("GptOssForCausalLM", "GptOssConfig", {"num_local_experts": 4, "num_experts_per_tok": 2}),
]


def write(folder: Path, architecture: str, config_class: str, own: dict[str, Any], dtype: str) -> None:
    """A checkpoint of random weights, as transformers saves it."""
    sizes = {name: value for name, value in (_SIZES | own).items() if value is not None}
    if "q_lora_rank" in own:
        sizes["q_lora_rank"] = own["q_lora_rank"]
    config = getattr(transformers, config_class)(**sizes, dtype=dtype)
    model = getattr(transformers, architecture)(config).to(getattr(torch, dtype))
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):  # in the published checkpoints it stays in 32 bits
            buffer.data = buffer.data.float()
    model.save_pretrained(folder)


def tensors_in(folder: Path) -> dict[str, tuple[str, tuple[int, ...], int]]:
    """Name → dtype, shape and bytes, from the files' own headers."""
    found = {}
    for file in folder.glob("*.safetensors"):
        content = file.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        for name, entry in json.loads(content[8 : 8 + length]).items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                found[name] = (entry["dtype"], tuple(entry["shape"]), end - begin)
    return found


@pytest.mark.parametrize(("architecture", "config_class", "own_sizes"), CASES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_real_checkpoint(
    tmp_path: Path, architecture: str, config_class: str, own_sizes: dict[str, Any], dtype: str
) -> None:
    write(tmp_path, architecture, config_class, own_sizes, dtype)
    config = read_config(str(tmp_path))
    load = Load(shapes_of(config), own(config))
    there = tensors_in(tmp_path)
    planned = {
        tensor.name.replace("*", str(expert)): (tensor.dtype, tensor.shape)
        for weight in load.shapes.weights
        for tensor in stored(weight, load.scheme)
        for expert in range(tensor.count)
    }
    assert planned == {name: (kind, shape) for name, (kind, shape, _) in there.items()}
    assert load.total == sum(size for _, _, size in there.values())


def test_every_architecture_is_tried() -> None:
    assert {architecture for architecture, _, _ in CASES} == FAMILIES.keys()


def test_a_field_that_is_missing_is_named(tmp_path: Path) -> None:
    """Of every architecture each field, one by one: the plan is the same without it, or it is refused by name."""
    for architecture, config_class, own_sizes in CASES:
        sizes = {name: value for name, value in (_SIZES | own_sizes).items() if value is not None}
        values = getattr(transformers, config_class)(**sizes, dtype="bfloat16").to_dict()
        values["architectures"] = [architecture]
        whole = _planned(tmp_path, values)
        for name in sizes.keys() - {"tie_word_embeddings", "attention_bias", "mlp_bias", "head_dim"}:
            left = {key: value for key, value in values.items() if key != name}
            try:
                without = _planned(tmp_path, left)
            except BuildError as refusal:
                assert name in str(refusal)
            else:
                assert without == whole or name in ("num_key_value_heads", "n_shared_experts", *_OPTIONAL), name


# What their classes in transformers have a default for, too: none, one, or all layers.
_OPTIONAL = ("q_lora_rank", "first_k_dense_replace", "mlp_only_layers", "decoder_sparse_step", "sliding_window")


def _planned(folder: Path, values: dict[str, Any]) -> int:
    (folder / "config.json").write_text(json.dumps(values))
    config = read_config(str(folder))
    return Load(shapes_of(config), own(config)).total


def test_the_plan_loads_neither_torch_nor_transformers() -> None:
    program = (
        "import sys, build.plan.__main__, build.plan.table; print(*sorted({'torch', 'transformers'} & {*sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout == "\n"
