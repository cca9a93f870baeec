"""Which modules adapters change, in TensorRT-LLM's names: of several adapters it must be told."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from contract.engines.trtllm.api import lora_modules
from contract.lora import ADAPTERS, Lora

_ATTENTION = ("attn_q", "attn_k", "attn_v")  # all of them or none


def target_fault(described: dict[str, Any]) -> str:
    """Why TensorRT-LLM cannot take an adapter, by its adapter_config.json, and what to do; '' if it can."""
    targets = described.get("target_modules")
    if isinstance(targets, str):
        return f"has a pattern for target_modules ({targets}). List the modules' names"
    if not targets:
        return "names no target_modules. List the modules that it changes"
    if unknown := sorted({_last(name) for name in targets} - lora_modules().keys()):
        return f"changes {', '.join(unknown)}, and TensorRT-LLM adapts {', '.join(lora_modules())}. Train it on these"
    if whole := described.get("modules_to_save"):
        return f"replaces {', '.join(whole)} (modules_to_save), which every request would get. Train it without"
    return ""


def adapted_modules(lora: Lora | None, engine: Path) -> list[str]:
    """Those that any adapter in an engine's folder changes, in the recorded order; none without adapters."""
    changed = {
        lora_modules()[_last(name)]
        for adapter in (lora.names if lora else ())
        for name in json.loads((engine / ADAPTERS / adapter / "adapter_config.json").read_text())["target_modules"]
    }
    return _with_attention(changed)


def _with_attention(changed: Iterable[str]) -> list[str]:
    changed = set(changed)
    if not changed.isdisjoint(_ATTENTION):
        changed.update(_ATTENTION)
    return [name for name in lora_modules().values() if name in changed]


def _last(name: str) -> str:
    """``q_proj`` of ``model.layers.0.self_attn.q_proj``."""
    return name.rpartition(".")[2]
