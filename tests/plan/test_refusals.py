"""What cannot be planned is refused by its name, with the way out."""

from pathlib import Path
from typing import Any

import pytest

from build.plan.asked import Options, by_deployment, by_options
from build.plan.layout import Layout
from build.plan.machines import Machines, parse_machines
from contract.errors import BuildError
from contract.spec import load_spec
from tests.plan.models import AWQ, ROOT, path_of, plan_of


@pytest.mark.parametrize(
    ("text", "machines"),
    [
        ("h200x8x2", Machines("h200", 8, 2)),
        ("H100x4", Machines("h100", 4, 1)),
        ("l4", Machines("l4", 1, 1)),
        ("rtx-4090x2", Machines("rtx-4090", 2, 1)),
        ("a100-40gbx8", Machines("a100-40gb", 8, 1)),
        ("a100-80gbx8x4", Machines("a100", 8, 4)),
    ],
)
def test_gpus(text: str, machines: Machines) -> None:
    assert parse_machines(text) == machines


@pytest.mark.parametrize("text", ["", "h200x", "h200x8x2x2", "8xh200", "h200 8", "h200x0", "h200x8x0", "h200x8x00"])
def test_malformed_gpus(text: str) -> None:
    with pytest.raises(BuildError, match="Write h200x8x2 for two machines of eight H200"):
        parse_machines(text)


def test_unknown_gpus() -> None:
    with pytest.raises(BuildError, match=r"GPUS=b20x8: no GPU b20 is known\. Did you mean b200\? Known: a10, a30"):
        parse_machines("b20x8")
    with pytest.raises(BuildError, match=r"no GPU voodoo is known\. Known: a10"):
        parse_machines("voodoox2")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": ["Qwen3NextForCausalLM"]}, "does not know Qwen3NextForCausalLM. The nearest is Qwen3"),
        ({"architectures": ["T5Model"]}, "does not know T5Model. Known: LlamaForCausalLM, "),
        ({"hidden_size": None}, "llama-3.1-8b.json has no hidden_size, which LlamaForCausalLM needs"),
        ({"num_hidden_layers": "many"}, "num_hidden_layers is 'many' and must be a whole number"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"vocab_size": -1}, "vocab_size is -1"),
        ({"torch_dtype": None}, "torch_dtype is not given. Known: float32, bfloat16, float16"),
        ({"torch_dtype": "int3"}, "torch_dtype is int3"),
        ({"quantization_config": {"quant_method": "hqq"}}, "does not know quant_method hqq. Known: fp8, "),
        ({"quantization_config": {"quant_method": "modelopt", "quant_algo": "W4A8"}}, "quant_algo W4A8 is not known"),
        ({"quantization_config": AWQ | {"bits": None}}, "quantization_config.bits is None"),
        ({"quantization_config": AWQ | {"bits": 5}}, "quantization_config.bits is 5"),
        (
            {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128]}},
            r"weight_block_size is [128] and must be two sizes. Write [128, 128]",
        ),
        ({"quantization_config": {"quant_method": "compressed-tensors"}}, "config_groups has not exactly one group"),
        (
            {
                "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "config_groups": {"group_0": {"weights": {"type": "float", "num_bits": 4}}},
                }
            },
            "compressed-tensors of 4-bit float are not known",
        ),
    ],
)
def test_configs(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BuildError) as refused:
        plan_of("llama-3.1-8b", "h100", **changes)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"precision": "int3"}, "PRECISION=int3 is not known. Known: fp32, bf16, fp16, int8"),
        (
            {"precision": "fp8"},
            "a100 is sm80 and has no FP8, which fp8 multiplies in. Use PRECISION=bf16 or int4_awq, or",
        ),
        ({"precision": "nvfp4"}, "a100 is sm80 and has no FP4"),
        ({"cache": "fp8"}, "a100 is sm80 and has no fp8 for its cache. Use auto, or l4, "),
        ({"length": 200_000}, "200000 tokens is beyond the model's context of 131072"),
        ({"length": 100, "prompt": 100}, "a prompt of 100 tokens leaves no answer in a length of 100"),
    ],
)
def test_what_is_asked(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(BuildError) as refused:
        plan_of("llama-3.1-8b", "a100", **asked)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("name", "gpus", "asked", "said", "ways_out"),
    [
        (
            "deepseek-r1",
            "h100x8",
            {},
            ("deepseek-r1.json in fp8_block does not fit h100x8: TP 8 × EP 8 has 79.3 GiB", "GiB too much"),
            ("GPUS=h100x8x2", "GPUS=h200x8", "PRECISION=int4_awq on these GPUs (352 GB of weights)"),
        ),
        (
            "llama-3.1-70b",
            "h100",
            {},
            ("TP 1 has 131.4 GiB of weights",),
            ("GPUS=h100x2", "GPUS=b200x1", "PRECISION=int4_awq"),
        ),
        # The weights fit, the cache of one long request does not.
        (
            "qwen3-32b",
            "h100",
            {"length": 40960},
            ("10.0 GiB of cache for one request of 40960 tokens",),
            ("a request of at most 30", "GPUS=h100x2"),
        ),
        # One layout is asked for, and another would do.
        ("llama-3.1-70b", "h100x4", {"layout": Layout(1)}, ("TP 1 has",), ("TP 4 fits these GPUs",)),
        (
            "qwen2.5-7b",
            "h100x8",
            {"layout": Layout(8)},
            ("TP 8: TP 8 does not divide 28 heads",),
            ("TP 2 fits these GPUs",),
        ),
        ("llama-3.1-8b", "h100x2", {"layout": Layout(8)}, ("TP 8: 8 GPUs are more than 2",), ("TP 2 fits these GPUs",)),
    ],
)
def test_what_does_not_fit(
    name: str, gpus: str, asked: dict[str, Any], said: tuple[str, ...], ways_out: tuple[str, ...]
) -> None:
    with pytest.raises(BuildError) as refused:
        plan_of(name, gpus, **asked)
    for part in said:
        assert part in refused.value.message
    for part in ways_out:
        assert part in refused.value.fix


def test_nothing_known_is_large_enough() -> None:
    with pytest.raises(BuildError, match="Nothing that is known here would fit"):
        plan_of("llama-3.1-8b", "l4", hidden_size=2**20, intermediate_size=2**22)


@pytest.mark.parametrize("text", ["8x", "x8", "0x1", "8x2x8x1", "eight"])
def test_layouts(text: str) -> None:
    with pytest.raises(BuildError, match=f"LAYOUT={text} is not of the form TP, TPxPP or TPxPPxEP"):
        by_options(str(path_of("llama-3.1-8b")), "h100", Options(layout=text))


def test_models(tmp_path: Path) -> None:
    for model, said in (
        ("no/such/folder", "MODEL=no/such/folder is no folder, no config.json and no repository"),
        (str(tmp_path), f"no config.json in {tmp_path}"),
    ):
        with pytest.raises(BuildError, match=said):
            by_options(model, "h100", Options())
    empty = tmp_path / "config.json"
    empty.write_text("{}")
    with pytest.raises(BuildError, match="has no architectures"):
        by_options(str(tmp_path), "h100", Options())
    empty.write_text("[]")
    with pytest.raises(BuildError, match="is not a JSON object"):
        by_options(str(empty), "h100", Options())


def test_options() -> None:
    model = str(path_of("llama-3.1-8b"))
    with pytest.raises(BuildError, match=r"no GPUs are named. Give GPUS=h200x8x2"):
        by_options(model, "", Options())
    with pytest.raises(BuildError, match=r"CACHE=int2 is not known. Known: auto, fp8"):
        by_options(model, "h100", Options(cache="int2"))


def test_deployments(tmp_path: Path) -> None:
    default = load_spec(ROOT / "configs" / "smollm2-135m.yaml")
    with pytest.raises(BuildError, match=r"engine.runtime openvino uses no GPU"):
        by_deployment(default, "h100", Options())
    with pytest.raises(BuildError, match="a deployment has its own precision"):
        by_deployment(default, "h100", Options(length=10))
    config = tmp_path / "gguf.yaml"
    config.write_text("name: x\nsource: {kind: pypi, package: p, version: 1.0.0}\nengine: {runtime: vllm}\n")
    with pytest.raises(BuildError, match=r"this source has none before it is fetched. Give MODEL="):
        by_deployment(load_spec(config), "h100", Options())
    config.write_text(f"name: x\nsource: {{kind: path, path: {path_of('llama-3.1-8b')}}}\nengine: {{runtime: vllm}}\n")
    with pytest.raises(BuildError, match="no GPUs are named"):
        by_deployment(load_spec(config), "", Options())
