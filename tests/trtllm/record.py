"""trtllm_contract.json, read from TensorRT-LLM 1.2.1's sources → contract/engines/trtllm/api.json, what we call of it.

``python -m tests.trtllm.record PATH/TO/trtllm_contract.json``: only needed when the recording changes.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from contract.engines.trtllm.api import DATA

_PLAIN = (
    "BuildConfig",
    "PluginConfig",
    "KvCacheConfig",
    "SchedulerConfig",
    "DynamicBatchConfig",
    "SamplingParams",
    "GuidedDecodingParams",
    "QuantConfig",
    "CalibConfig",
    "LoRARequest",
    "LoraConfig",
    "PeftCacheConfig",
    "ExtendedRuntimePerfKnobConfig",
    "CudaGraphConfig",
)
# tensorrt_llm/llmapi/__init__.py exports all that we name but these.
_PLACES = {
    "TensorRtLlm": "tensorrt_llm._tensorrt_engine.LLM",
    "TorchLlm": "tensorrt_llm.LLM",
    "PluginConfig": "tensorrt_llm.plugin.PluginConfig",
    "LoraConfig": "tensorrt_llm.lora_helper.LoraConfig",
    "PeftCacheConfig": "tensorrt_llm.llmapi.llm_args.PeftCacheConfig",
}
# tensorrt_llm/lora_helper.py, get_default_trtllm_modules_to_hf_modules, the other way round.
_LORA_MODULES = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_dense",
    "gate_proj": "mlp_h_to_4h",
    "down_proj": "mlp_4h_to_h",
    "up_proj": "mlp_gate",
    "gate_up_proj": "mlp_gate_up",
    "w1": "moe_h_to_4h",
    "w2": "moe_4h_to_h",
    "w3": "moe_gate",
    "gate": "moe_router",
}
_METHODS = ("save", "shutdown", "get_stats", "get_stats_async")
_SPECULATIVE = ("LookaheadDecodingConfig", "MedusaDecodingConfig", "EagleDecodingConfig")


def _type(text: str) -> str:
    text = re.sub(r"^object \((.*)\)$", r"\1", text)
    text = re.sub(r"[A-Za-z_]+\.(?=[A-Za-z_])", "", text)  # module names: torch., bindings.executor.
    return re.sub(r",(?! )", ", ", text)


def _field(field: dict[str, Any]) -> dict[str, Any]:
    # MoeConfig and its like cannot be given in YAML; what they hold is not recorded.
    default = field["default"]
    if isinstance(default, str) and default.startswith("<C++ default"):
        default = "<C++>"
    return {"type": _type(field["type"]), "default": default}


def _fields(recorded: dict[str, Any]) -> dict[str, Any]:
    return {name: _field(field) for name, field in recorded.items() if not name.startswith("_")}


def _arguments(signature: list[str]) -> dict[str, Any]:
    """``["inputs", "use_tqdm=True", "timeout: Optional[float]=2"]`` as fields."""
    fields = {}
    for part in signature:
        name, _, default = part.partition("=")
        name, _, annotation = name.partition(": ")
        value: Any = "<required>"
        if default:
            value = {"None": None, "True": True, "False": False}.get(default, default)
            value = int(value) if isinstance(value, str) and value.isdigit() else value
        fields[name] = {"type": _type(annotation) or "Any", "default": value}
    return fields


def shipped(recorded: dict[str, Any]) -> dict[str, Any]:
    """What the project ships of the recording."""
    base = _fields(recorded["BaseLlmArgs"])
    calls = {
        "TensorRtLlm": base | _fields(recorded["TrtLlmArgs_own"]),
        "TorchLlm": base | _fields(recorded["TorchLlmArgs_own"]),
        **{name: _fields(recorded[name]) for name in _PLAIN},
        **{name: _fields(recorded["DecodingBaseConfig"]) | _fields(recorded[name]) for name in _SPECULATIVE},
        "generate_async": {field["name"]: _field(field) for field in recorded["generate_async"]},
        **{name: _arguments(recorded["LLM_methods"][name]) for name in _METHODS},
    }
    source = recorded["source"]
    return {
        "source": f"https://github.com/{source['repo']}, branch {source['branch']}, commit {source['commit']}",
        "version": recorded["version"],
        "places": _PLACES,
        "lora_modules": _LORA_MODULES,
        "calls": calls,
        "enums": {
            "QuantAlgo": recorded["QuantAlgo"],
            "CapacitySchedulerPolicy": ["MAX_UTILIZATION", "GUARANTEED_NO_EVICT", "STATIC_BATCH"],
            "ContextChunkingPolicy": ["FIRST_COME_FIRST_SERVED", "EQUAL_PROGRESS"],
            "BatchingType": ["STATIC", "INFLIGHT"],
        },
        "results": {
            "RequestOutput": [part for entry in recorded["RequestOutput"] for part in entry["name"].split("/")],
            "CompletionOutput": {
                entry["name"]: {"type": _type(entry["type"]), "default": entry["default"]}
                for entry in recorded["CompletionOutput"]
                if entry.get("kind") != "property"
            },
            "CompletionOutput_properties": [
                entry["name"] for entry in recorded["CompletionOutput"] if entry.get("kind") == "property"
            ],
        },
    }


def pretty(data: dict[str, Any]) -> str:
    """JSON with a line a field."""
    text = json.dumps(data, indent=1, ensure_ascii=False)
    return re.sub(r"\{\s+(\"type\"[^{}]*?)\s+\}", lambda found: "{" + re.sub(r"\s+", " ", found[1]) + "}", text) + "\n"


if __name__ == "__main__":
    DATA.write_text(pretty(shipped(json.loads(Path(sys.argv[1]).read_text()))))
