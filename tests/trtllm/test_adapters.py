"""Adapters from a spec to an answer over the double, which knows 1.2.1's rules: of engines, and of PyTorch."""

import shutil
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from build.adapters import place_adapters
from contract.engines.trtllm.arguments import build_call
from contract.engines.trtllm.calls import make
from contract.engines.trtllm.check import wanted_options
from contract.engines.trtllm.lora import adapted_modules
from contract.spec import Deployment
from contract.tensors import FinishReason
from python_backend.trtllm.engine import TrtllmEngine
from tests.trtllm.adapters import write_adapter
from tests.trtllm.conftest import OPENVINO
from tests.trtllm.specs import spec
from tests.trtllm.test_engine import LIMITS, Bench

MODULES = {"land": ("q_proj", "v_proj"), "sea": ("model.layers.0.mlp.down_proj",)}


def deployment(backend: str, folder: Path, names: tuple[str, ...]) -> Deployment:
    adapters = {name: str(folder / "adapters" / name) for name in names}
    return spec({"backend": backend, "lora": {"adapters": adapters}}, limits=LIMITS)


@pytest.fixture
def folder(engine: Path, tmp_path: Path) -> Path:
    """An engine's folder without the engine, and two adapters of which each changes other modules."""
    for file in engine.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    for name, modules in MODULES.items():
        path = write_adapter(tmp_path / "adapters" / name, [each.rpartition(".")[2] for each in modules])
        config = path / "adapter_config.json"
        config.write_text(config.read_text().replace('"down_proj"', f'"{modules[0]}"'))
    return tmp_path


@pytest.mark.parametrize(
    ("backend", "names"), [("tensorrt", ("land",)), ("tensorrt", ("land", "sea")), ("pytorch", ("land", "sea"))]
)
def test_each_adapter_answers(folder: Path, backend: str, names: tuple[str, ...]) -> None:
    wanted = deployment(backend, folder, names)
    place_adapters(wanted.engine.trtllm.lora, folder)
    if backend == "pytorch":
        (folder / "trtllm").symlink_to(OPENVINO)
    else:
        build(wanted, folder)
    made = TrtllmEngine(folder, wanted)
    bench = Bench(made)
    made.start(bench.sink)
    try:
        plain = bench.ask(max_tokens=3)
        for name in names:
            outputs = bench.ask(max_tokens=3, lora_name=name)
            assert outputs[-1].finish is FinishReason.LENGTH, outputs[-1].error
            # The double has no weights to differ by.
            assert [output.ids for output in outputs] == [output.ids for output in plain]
    finally:
        made.stop()


def build(wanted: Deployment, folder: Path) -> None:
    call = build_call(
        wanted,
        checkpoint=str(OPENVINO),
        folder=PurePosixPath(folder),
        workspace=str(folder),
        kernels="",
        new_kernels=str(folder / "kernels"),
        adapted=adapted_modules(wanted.engine.trtllm.lora, folder),
    )
    llm = make(call)
    llm.save(str(folder / "trtllm"))
    llm.shutdown()


def test_all_modules_are_told_in_tensorrt_llms_names(folder: Path) -> None:
    """Of the attention's three inputs all are: that is what TensorRT-LLM makes of any of them."""
    wanted = deployment("tensorrt", folder, ("land", "sea"))
    place_adapters(wanted.engine.trtllm.lora, folder)
    assert adapted_modules(wanted.engine.trtllm.lora, folder) == ["attn_q", "attn_k", "attn_v", "mlp_4h_to_h"]
    assert adapted_modules(None, folder) == []


def test_a_server_needs_no_adapter_to_know_what_is_built_in(folder: Path) -> None:
    """Those of the engine are compared by the engine's version; the spec's paths are not in the container."""
    wanted = deployment("tensorrt", folder, ("land",))
    shutil.rmtree(folder / "adapters")
    assert wanted_options(wanted)["build_config.lora_config.max_lora_rank"] == 64


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"lora_dir": []}, "lora_target_modules is empty"),
        ({"lora_dir": ["/nowhere"]}, "does not exist in /nowhere"),
    ],
)
def test_the_double_refuses_what_1_2_1_refuses(
    doubles: None, tmp_path: Path, config: dict[str, Any], said: str
) -> None:
    from tensorrt_llm import LLM as TorchLLM
    from tensorrt_llm._tensorrt_engine import LLM
    from tensorrt_llm.llmapi import BuildConfig
    from tensorrt_llm.lora_helper import LoraConfig

    built = BuildConfig(lora_config=LoraConfig(**config), output_timing_cache=str(tmp_path / "kernels"))
    with pytest.raises(ValueError, match=said):
        LLM(model=str(OPENVINO), build_config=built, enable_lora=True)
    adapters = [str(write_adapter(tmp_path / name)) for name in ("a", "b")]
    with pytest.raises(AssertionError, match="at least one lora target module"):
        TorchLLM(model=str(OPENVINO), lora_config=LoraConfig(lora_dir=adapters))
