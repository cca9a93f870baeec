"""Configs and checkpoints that cannot be, each with what its user is told before any container starts.

docs/troubleshooting.md is made of this table and of mismatched.py: ``python -m tests.trtllm.troubleshooting``.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from build.trtllm.fit import check_model
from contract.errors import ConchError
from contract.spec import load_spec
from tests.trtllm.specs import BASE

# Of an 8B model.
MODEL: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": 4096,
    "head_dim": 128,
    "intermediate_size": 12288,
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "max_position_embeddings": 40960,
    "vocab_size": 151936,
    "torch_dtype": "bfloat16",
}
ADAPTERS: dict[str, dict[str, Any]] = {
    "none": {"target_modules": []},
    "pattern": {"target_modules": ".*_proj"},
    "others": {"target_modules": ["q_proj", "transformer.h.0.attn.c_attn", "lm_head"]},
    "whole": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
}
EIGHT_BILLION = 16_400_000_000  # bytes


@dataclass(frozen=True)
class Wrong:
    """One of them."""

    title: str
    said: str
    trtllm: dict[str, Any] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] | None = None  # changes of MODEL; none: the config alone is refused
    modelopt: str = ""  # quant_algo of hf_quant_config.json
    weights: int = EIGHT_BILLION


WRONG = (
    Wrong(
        "A precision that TensorRT-LLM does not have",
        "engine.precision: fp32 is none of TensorRT-LLM's for backend tensorrt. Use bf16, fp16, int8, int4, int4_awq, "
        "int8_sq, w4a8_awq, fp8, fp8_rowwise, nvfp4",
        engine={"precision": "fp32"},
    ),
    Wrong(
        "A precision of the other backend",
        "engine.precision: int8_sq is none of TensorRT-LLM's for backend pytorch. Use bf16, fp16, int4_awq, w4a8_awq, "
        "fp8, fp8_rowwise, fp8_block, nvfp4, or backend tensorrt",
        {"backend": "pytorch"},
        engine={"precision": "int8_sq"},
    ),
    Wrong(
        "FP8 on a GPU without it",
        "engine.precision: fp8 needs sm89 or newer (Ada, Hopper or Blackwell), gpu a100 is sm80. Use bf16 or int4_awq, "
        "or other GPUs",
        {"gpu": "a100"},
        engine={"precision": "fp8"},
    ),
    Wrong(
        "NVFP4 on a GPU without it",
        "engine.precision: nvfp4 needs sm100 or newer (Blackwell), gpu h100 is sm90. Use bf16 or int4_awq, "
        "or other GPUs",
        engine={"precision": "nvfp4"},
    ),
    Wrong(
        "An FP8 cache on a GPU without FP8",
        "engine.trtllm.kv_cache.precision: fp8 needs sm89 or newer (Ada, Hopper or Blackwell), gpu a10 is sm86. "
        "Use auto, or other GPUs",
        {"gpu": "a10", "kv_cache": {"precision": "fp8"}},
    ),
    Wrong(
        "An NVFP4 cache in an engine",
        "engine.trtllm.kv_cache.precision: 1.2.1 cannot build nvfp4 into an engine. Use fp8, or backend pytorch",
        {"gpu": "b200", "kv_cache": {"precision": "nvfp4"}},
    ),
    Wrong(
        "An INT8 cache without an engine",
        "engine.trtllm.kv_cache.precision: int8 is of engines only. Use fp8, or backend tensorrt",
        {"backend": "pytorch", "kv_cache": {"precision": "int8"}},
    ),
    Wrong(
        "An INT8 cache beside FP8 weights",
        "engine.trtllm.kv_cache.precision: int8 contradicts engine.precision fp8. Use fp8",
        {"kv_cache": {"precision": "int8"}},
        engine={"precision": "fp8"},
    ),
    Wrong(
        "Steps that hold no whole prompt",
        "limits.max_num_tokens: 1024 is below limits.max_input_len (2048), and without chunked_context a prompt is one "
        "step. Raise it, or set engine.trtllm.chunked_context: true",
        {"chunked_context": False},
        limits={"max_num_tokens": 1024},
    ),
    Wrong(
        "Steps that hold no whole batch",
        "limits.max_num_tokens: 48 is below limits.max_batch_size (64), and each request of a step has one token at "
        "least. Raise it",
        limits={"max_num_tokens": 48},
    ),
    Wrong(
        "Blocks of the cache of an odd size",
        "engine.trtllm.kv_cache.tokens_per_block: must be a power of 2, got 48. 32 is usual",
        {"kv_cache": {"tokens_per_block": 48}},
    ),
    Wrong(
        "An engine's option without an engine",
        "engine.trtllm.fast_build: is of engines only, and backend pytorch builds none. Leave it out",
        {"backend": "pytorch", "fast_build": True},
    ),
    Wrong(
        "PyTorch's option for an engine",
        "engine.trtllm.attention_dp: is of backend pytorch only. Leave it out",
        {"attention_dp": True},
    ),
    Wrong(
        "Speculation that only engines have",
        "engine.trtllm.speculative: lookahead is of engines only. Use eagle, or backend tensorrt",
        {"backend": "pytorch", "speculative": {"kind": "lookahead"}},
    ),
    Wrong(
        "Log probabilities of speculated tokens",
        "engine.trtllm.log_probs: cannot be had with speculative lookahead. Leave one of them out",
        {"log_probs": True, "speculative": {"kind": "lookahead"}},
    ),
    Wrong(
        "Calibration without a use",
        "engine.trtllm.calibration: engine.precision bf16 needs none. Leave it out",
        {"calibration": {"batches": 64}},
    ),
    Wrong(
        "Calibration data behind a closed door",
        "engine.trtllm.calibration.dataset: cnn_dailymail comes over the network, and container.network is false. "
        "Name a folder that holds it",
        {"container": {"network": False}},
        engine={"precision": "fp8"},
    ),
    Wrong(
        "An image with another TensorRT-LLM",
        "engine.trtllm.container.image: 26.02 has TensorRT-LLM 1.1.0, and this project speaks to 1.2.1. "
        "Use nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3",
        {"container": {"image": "nvcr.io/nvidia/tritonserver:26.02-trtllm-python-py3"}},
    ),
    Wrong(
        "Machines that are not full",
        "engine.parallel: 12 GPUs are no whole number of nodes of 8 (gpus_per_node). Fill every node",
        engine={"parallel": {"tensor": 4, "pipeline": 3}},
    ),
    Wrong(
        "The CPU's cache size",
        "limits.kv_cache_gib: is of the CPU's engine. Use engine.trtllm.kv_cache.memory_fraction",
        limits={"kv_cache_gib": 8},
    ),
    Wrong(
        "A misspelt key",
        "engine.trtllm.kv_cache.memory_fracton: unknown key; did you mean memory_fraction?",
        {"kv_cache": {"memory_fracton": 0.8}},
    ),
    Wrong(
        "A key of another kind of speculation",
        "engine.trtllm.speculative.max_draft_len: unknown key; known keys: kind, window, ngram, verification",
        {"speculative": {"kind": "lookahead", "max_draft_len": 4}},
    ),
    Wrong(
        "A GPU without a name here",
        "engine.trtllm.gpu: input should be 'a10', 'a30', 'a100-40gb', 'a100', 'a800', 'l4', 'l40s', 'rtx-4090', "
        "'h20', 'h100', 'h800', 'h200', 'gh200', 'b200', 'rtx-5090' or 'rtx-pro-6000', got 'v100'",
        {"gpu": "v100"},
    ),
    Wrong(
        "Another runtime's section",
        "engine.trtllm: is of runtime trtllm, and engine.runtime is openvino",
        engine={"runtime": "openvino"},
    ),
    Wrong(
        "A misspelt argument in extra",
        "engine.trtllm.extra.plugin.gemm_plugn: PluginConfig has no argument gemm_plugn; did you mean gemm_plugin?",
        {"extra": {"plugin": {"gemm_plugn": "auto"}}},
    ),
    Wrong(
        "An argument of the wrong type in extra",
        "engine.trtllm.extra.build.strongly_typed: BuildConfig wants bool for strongly_typed, got 'yes please'",
        {"extra": {"build": {"strongly_typed": "yes please"}}},
    ),
    Wrong(
        "An argument in extra that has a key of its own",
        "engine.trtllm.extra.llm.tensor_parallel_size: is what engine.parallel.tensor sets. Use that",
        {"extra": {"llm": {"tensor_parallel_size": 2}}},
    ),
    Wrong(
        "An architecture without engines",
        "TensorRT-LLM 1.2.1 builds no engine of DeepseekV3ForCausalLM. Set engine.trtllm.backend: pytorch, which needs "
        "none",
        model={"architectures": ["DeepseekV3ForCausalLM"]},
    ),
    Wrong(
        "A checkpoint quantized by others",
        "the checkpoint is quantized by gptq, which TensorRT-LLM 1.2.1 refuses. Use the unquantized checkpoint with "
        "engine.precision int4_awq or fp8, one that NVIDIA's ModelOpt quantized, or runtime vllm",
        engine={"precision": "int4_awq"},
        model={"quantization_config": {"quant_method": "gptq", "bits": 4}},
    ),
    Wrong(
        "A checkpoint quantized to something else",
        "the checkpoint is quantized to fp8 already, engine.precision asks for bf16. Set engine.precision: fp8, "
        "or use the unquantized checkpoint",
        model={},
        modelopt="FP8",
    ),
    Wrong(
        "Quantization asked of PyTorch",
        "backend pytorch quantizes nothing, and the checkpoint is not in fp8. Use one that is (NVIDIA publishes them "
        "as "
        "…-FP8 and …-FP4), engine.precision bf16, or backend tensorrt",
        {"backend": "pytorch"},
        engine={"precision": "fp8"},
        model={},
    ),
    Wrong(
        "A context beyond the model's",
        "limits.max_seq_len is 65536, the model's context is 40960. Lower limits.max_seq_len, or use a checkpoint "
        "whose "
        "config.json scales its positions (rope_scaling)",
        limits={"max_seq_len": 65536},
        model={},
    ),
    Wrong(
        "Heads that do not divide",
        "engine.parallel.tensor 3 does not divide the model's 32 heads. Use 2, 4, 8, 16, 32",
        engine={"parallel": {"tensor": 3}},
        model={},
    ),
    Wrong(
        "Key-value heads that do not divide",
        "engine.parallel.tensor 4 neither divides the model's 6 key-value heads nor is a multiple of them. "
        "Use a power of 2",
        engine={"parallel": {"tensor": 4}},
        model={"num_attention_heads": 24, "num_key_value_heads": 6},
    ),
    Wrong(
        "More stages than layers",
        "engine.parallel.pipeline 8 is more than the model's 4 layers. Lower it",
        engine={"parallel": {"pipeline": 8}},
        model={"num_hidden_layers": 4},
    ),
    Wrong(
        "Experts asked of a dense model",
        "engine.parallel.expert is 2, and Qwen3ForCausalLM has no experts. Leave it out",
        engine={"parallel": {"tensor": 2, "expert": 2}},
        model={},
    ),
    Wrong(
        "Groups of channels that do not divide",
        "engine.precision int4_awq scales groups of 128 channels, and 18944 channels split by engine.parallel.tensor 8 "
        "are no whole groups. Lower it, or use fp8",
        engine={"precision": "int4_awq", "parallel": {"tensor": 8}},
        model={"intermediate_size": 18944},
    ),
    Wrong(
        "An adapter that is not there",
        "engine.trtllm.lora.adapters.sea: no adapter_config.json in /nowhere/sea. Name an adapter of PEFT",
        {"lora": {"adapters": {"sea": "/nowhere/sea"}}},
        model={},
    ),
    Wrong(
        "An adapter that names no modules",
        "engine.trtllm.lora.adapters.sea names no target_modules. List the modules that it changes",
        {"lora": {"adapters": {"sea": "ADAPTERS/none"}}},
        model={},
    ),
    Wrong(
        "An adapter whose modules are a pattern",
        "engine.trtllm.lora.adapters.sea has a pattern for target_modules (.*_proj). List the modules' names",
        {"lora": {"adapters": {"sea": "ADAPTERS/pattern"}}},
        model={},
    ),
    Wrong(
        "An adapter of other modules",
        "engine.trtllm.lora.adapters.sea changes c_attn, lm_head, and TensorRT-LLM adapts q_proj, k_proj, v_proj, "
        "o_proj, gate_proj, down_proj, up_proj, gate_up_proj, w1, w2, w3, gate. Train it on these",
        {"lora": {"adapters": {"sea": "ADAPTERS/others"}}},
        model={},
    ),
    Wrong(
        "An adapter with layers of its own",
        "engine.trtllm.lora.adapters.sea replaces lm_head (modules_to_save), which every request would get. "
        "Train it without",
        {"lora": {"adapters": {"sea": "ADAPTERS/whole"}}},
        model={},
    ),
    Wrong(
        "A draft model that is not there",
        "engine.trtllm.speculative.model: no config.json in /nowhere/eagle. Name the draft model's folder",
        {"speculative": {"kind": "eagle", "model": "/nowhere/eagle", "max_draft_len": 4}},
        model={},
    ),
    Wrong(
        "A model that does not fit",
        "29.8 GiB of weights in bf16 and 0.6 GiB of cache for one request of 4096 tokens do not fit one of 1 × l4 "
        "(22 GiB). Raise engine.parallel.tensor, or lower engine.precision",
        {"gpu": "l4"},
        model={},
        weights=32 * 10**9,
    ),
)


def refusal(case: Wrong, folder: Path) -> str:
    """What the user is told; '' if nothing is."""
    engine = BASE["engine"] | case.engine
    engine["trtllm"] = BASE["engine"]["trtllm"] | case.trtllm
    config = folder / "wrong.yaml"
    said = yaml.safe_dump(BASE | {"engine": engine, "limits": BASE["limits"] | case.limits})
    config.write_text(said.replace("ADAPTERS", str(folder)))
    for name, described in ADAPTERS.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "adapter_config.json").write_text(json.dumps(described))
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir(exist_ok=True)
    (checkpoint / "config.json").write_text(json.dumps(MODEL | (case.model or {})))
    index = {"metadata": {"total_size": case.weights}, "weight_map": {}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    if case.modelopt:
        (checkpoint / "hf_quant_config.json").write_text(json.dumps({"quantization": {"quant_algo": case.modelopt}}))
    try:
        spec = load_spec(config)
        if case.model is not None:
            check_model(checkpoint, spec)
    except ConchError as refused:
        return str(refused)
    return ""
