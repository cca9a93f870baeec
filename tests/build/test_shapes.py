"""Random weights that are written are a whole checkpoint: transformers finds each tensor, and no other."""

from pathlib import Path

import pytest
from safetensors import safe_open

from loadtests.shapes import SHAPES, _tensors, write_shape, write_weights


def test_a_shapes_weights_are_what_transformers_wants(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    write_shape("llama-tiny", tmp_path)
    write_weights(tmp_path)
    _, found = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    assert not found["mismatched_keys"]
    with safe_open(tmp_path / "model-00001.safetensors", framework="pt") as file:
        weights = file.get_tensor("model.layers.0.mlp.up_proj.weight").float()
    assert weights.std().item() == pytest.approx(0.02, rel=0.05)


def test_the_large_shape_has_a_head_of_its_own() -> None:
    sizes = [size for tensors in _tensors(SHAPES["llama-8b"]) for size in tensors.values()]
    assert sum(size[0] * (size[1] if len(size) > 1 else 1) for size in sizes) == 8_030_261_248
