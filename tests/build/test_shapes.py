"""Random weights that are written are a whole checkpoint; and a shape has the parameters that its model has."""

import json
from pathlib import Path

import pytest

from loadtests.shapes import SHAPES, write_shape, write_weights

# As the models' own pages count them.
PARAMETERS = {
    "llama-8b": 8_030_261_248,
    "smollm2-135m": 134_515_008,
    "qwen2.5-32b": 32_763_876_352,
    "qwen3-0.6b": 596_049_920,
    "qwen3-30b-a3b": 30_532_122_624,
}


def test_a_shapes_weights_are_what_transformers_wants(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    write_shape("llama-tiny", tmp_path)
    write_weights(tmp_path)
    model, found = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    assert not found["mismatched_keys"]
    weights = model.model.layers[0].mlp.up_proj.weight.float()
    assert weights.std().item() == pytest.approx(0.02, rel=0.05)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["rope_theta"] == SHAPES["llama-tiny"]["rope_theta"], "as published models have it"


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_a_shape_has_the_parameters_of_its_model(name: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    write_shape(name, tmp_path)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path))
    assert sum(each.numel() for each in model.parameters()) == PARAMETERS[name]
