"""What stands in a checkpoint for one matrix of 256 outputs and 512 inputs, by what its config says."""

from typing import Any

import pytest

from build.plan.quantization import named, own, stored, takes
from build.plan.weights import Part, Split, Weight
from tests.plan.models import AWQ, FP8, INT8, config_of

MATRIX = Weight("model.layers.0.mlp.up_proj.weight", (256, 512), Part.MLP, 0, Split.ROWS, linear=True)


def compressed(weights: dict[str, Any], inputs: dict[str, Any] | None = None) -> dict[str, Any]:
    group = {"weights": weights, "input_activations": inputs, "targets": ["Linear"]}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}, "ignore": ["lm_head"]}


CASES: list[tuple[str, dict[str, Any], str, dict[str, tuple[str, tuple[int, ...]]]]] = [
    ("fp8_block", FP8, "fp8", {"weight": ("F8_E4M3", (256, 512)), "weight_scale_inv": ("F32", (2, 4))}),
    ("int8_block", INT8, "int8", {"weight": ("I8", (256, 512)), "weight_scale_inv": ("F32", (2, 4))}),
    ("fp8", {"quant_method": "fp8"}, "fp8", {"weight": ("F8_E4M3", (256, 512)), "weight_scale": ("F32", ())}),
    (
        "fp8",
        {"quant_method": "fp8", "activation_scheme": "static"},
        "fp8",
        {"weight": ("F8_E4M3", (256, 512)), "weight_scale": ("F32", ()), "input_scale": ("F32", ())},
    ),
    (
        "int4_awq",
        AWQ,
        "bf16",
        {"qweight": ("I32", (512, 32)), "qzeros": ("I32", (4, 32)), "scales": ("F16", (4, 256))},
    ),
    (
        "int4_gptq",
        {"quant_method": "gptq", "bits": 4, "group_size": 128},
        "bf16",
        {
            "qweight": ("I32", (64, 256)),
            "qzeros": ("I32", (4, 32)),
            "scales": ("F16", (4, 256)),
            "g_idx": ("I32", (512,)),
        },
    ),
    (
        "int8_gptq",
        {"quant_method": "gptq", "bits": 8, "group_size": -1},
        "bf16",
        {
            "qweight": ("I32", (128, 256)),
            "qzeros": ("I32", (1, 64)),
            "scales": ("F16", (1, 256)),
            "g_idx": ("I32", (512,)),
        },
    ),
    (
        "nvfp4",
        {"quant_method": "modelopt", "quant_algo": "NVFP4"},
        "fp4",
        {
            "weight": ("U8", (256, 256)),
            "weight_scale": ("F8_E4M3", (256, 32)),
            "weight_scale_2": ("F32", ()),
            "input_scale": ("F32", ()),
        },
    ),
    (
        "fp8_rowwise",
        compressed({"type": "float", "num_bits": 8, "strategy": "channel"}, {"dynamic": True}),
        "fp8",
        {"weight": ("F8_E4M3", (256, 512)), "weight_scale": ("BF16", (256, 1))},
    ),
    (
        "fp8",
        compressed({"type": "float", "num_bits": 8, "strategy": "tensor"}, {"dynamic": False}),
        "fp8",
        {"weight": ("F8_E4M3", (256, 512)), "weight_scale": ("BF16", (1,)), "input_scale": ("BF16", (1,))},
    ),
    (
        "int8_sq",
        compressed({"type": "int", "num_bits": 8, "strategy": "channel"}, {"dynamic": True}),
        "int8",
        {"weight": ("I8", (256, 512)), "weight_scale": ("BF16", (256, 1))},
    ),
    (
        "int4_packed",
        compressed({"type": "int", "num_bits": 4, "strategy": "group", "group_size": 128}),
        "bf16",
        {"weight_packed": ("I32", (256, 64)), "weight_scale": ("BF16", (256, 4)), "weight_shape": ("I64", (2,))},
    ),
]


@pytest.mark.parametrize(("name", "quantization", "compute", "tensors"), CASES)
def test_a_matrix(
    name: str, quantization: dict[str, Any], compute: str, tensors: dict[str, tuple[str, tuple[int, ...]]]
) -> None:
    scheme = own(config_of("llama-3.1-8b", quantization_config=quantization))
    assert (scheme.name, scheme.compute) == (name, compute)
    there = {tensor.name.rpartition(".")[2]: (tensor.dtype, tensor.shape) for tensor in stored(MATRIX, scheme)}
    assert there == tensors


@pytest.mark.parametrize(
    ("precision", "bits"),
    [
        ("fp32", 32),
        ("bf16", 16),
        *((name, 8) for name in ("fp8", "fp8_rowwise", "fp8_block", "int8", "int8_sq")),
        *((name, 4) for name in ("int4", "int4_awq", "w4a8_awq")),
        ("nvfp4", 4.5),
    ],
)
def test_what_a_deployment_may_ask_for(precision: str, bits: float) -> None:
    size = sum(tensor.bytes for tensor in stored(MATRIX, named(precision, "BF16")))
    assert size * 8 / MATRIX.numbers == pytest.approx(bits, rel=0.05)


@pytest.mark.parametrize(
    ("skip", "taken"),
    [
        ([], True),
        (["lm_head", "mlp.gate"], True),  # a router's name is not the beginning of another's
        (["up_proj"], False),
        (["model.layers.0"], False),
        (["model.layers.0.mlp.up_proj"], False),
        (["model.layers.*.mlp"], False),
        (["model.layers.*.self_attn"], True),
        (["re:.*up_proj$"], False),
        (["re:lm_head"], True),
    ],
)
def test_modules_that_are_left_out(skip: list[str], taken: bool) -> None:
    for key in ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules"):
        scheme = own(config_of("llama-3.1-8b", quantization_config=FP8 | {key: skip}))
        assert takes(MATRIX, scheme) is taken
