"""LoRA by 1.2.1's rules: which modules are adapted is told to the LLM, and is read of a single adapter at most.

From lora_helper.py and lora_manager.py (HfLoraLoader, load_hf_lora, load_torch_hf_lora), _torch/pyexecutor/_util.py
(create_py_executor_instance), and for a request's modules cpp/tensorrt_llm/runtime/loraUtils.cpp.
"""

import json
import re
import struct
from pathlib import Path
from typing import Any

from contract.engines.trtllm.api import recorded

_WEIGHT = re.compile(r".*\.\d+\.\w+\.(\w+)\.lora_[AB]\.weight")
_ATTENTION = ("attn_q", "attn_k", "attn_v")


def load(config: Any) -> None:
    """What an engine's build, and PyTorch with one adapter, make of a LoraConfig."""
    for folder in config.lora_dir:
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            if not (Path(folder) / name).exists():
                raise ValueError(f"{name} does not exist in {folder}")
    if not config.lora_target_modules and config.lora_dir:
        config.lora_target_modules = modules_of(config.lora_dir[0])
    if not config.lora_target_modules:
        raise ValueError(
            "lora_target_modules is empty. "
            "Please specify lora_target_modules or provide lora_dir to infer lora_target_modules."
        )
    config.lora_target_modules = whole(config.lora_target_modules)


def load_torch(config: Any) -> None:
    """The same for PyTorch, which looks into one adapter and not into several."""
    if len(config.lora_dir) == 1:
        load(config)
    else:
        assert len(config.lora_target_modules) >= 1, "Expecting at least one lora target module"


def whole(modules: list[str]) -> list[str]:
    """Of the attention's inputs all or none."""
    missing = [name for name in _ATTENTION if name not in modules] if set(modules) & set(_ATTENTION) else []
    return [*modules, *missing]


def modules_of(folder: str | Path) -> list[str]:
    """The modules that an adapter's weights change, in TensorRT-LLM's names."""
    with (Path(folder) / "adapter_model.safetensors").open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    found = {match[1] for match in map(_WEIGHT.fullmatch, header) if match}
    known = recorded()["lora_modules"]
    for name in found:
        assert name in known, f"hf_module {name} is not in supported list {set(known)}"
    return sorted(known[name] for name in found)


def refused(folder: str | Path, adapted: list[str]) -> str:
    """Why the runtime refuses a request's adapter; '' if it does not."""
    return next(
        (f"lora module {name} not enabled for this model" for name in modules_of(folder) if name not in adapted), ""
    )
