"""What each parameter and tensor of inflight_batcher_llm becomes: a key of the spec, or why there is none."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TRTLLM = "engine.trtllm"
_EXTRA = f"{TRTLLM}.extra"

Convert = Callable[[str], Any]


@dataclass(frozen=True)
class To:
    """A parameter that becomes a key of the spec."""

    key: str
    convert: Convert


@dataclass(frozen=True)
class No:
    """A parameter without equivalent. ``unless``: values that change nothing, of which nothing needs to be said."""

    reason: str
    unless: tuple[str, ...] = ()


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
        raise ValueError("true or false")
    return text.lower() in ("true", "1", "yes")


def _gib(text: str) -> int:
    return math.ceil(int(text) / 2**30)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _policy(text: str) -> str:
    if text not in ("guaranteed_no_evict", "max_utilization"):
        raise ValueError("guaranteed_no_evict or max_utilization: with in-flight batching there is no static one")
    return text


def _xgrammar(text: str) -> bool:
    if text != "xgrammar":
        raise ValueError("xgrammar")
    return True


ONE_PROCESS = "each stage is one process"
_ADAPTERS = "adapters are loaded at the start, by name: see engine.trtllm.lora"
_RANKS = "trtllm-llmapi-launch places the ranks, and CUDA_VISIBLE_DEVICES names the GPUs"
_KNOBS = "set engine.trtllm.extra.llm.extended_runtime_perf_knob_config by hand if you measured that it helps"
_HEADS = "set engine.trtllm.speculative: it needs the folder of the heads too, which a repository does not name"
_TEXT_ONLY = "text only: no stage here takes images"

ENGINE: dict[str, To | No] = {
    "batch_scheduler_policy": To(f"{TRTLLM}.scheduler", _policy),
    "cancellation_check_period_ms": No("a cancel reaches the engine at once, nothing is polled"),
    "cross_kv_cache_fraction": No("encoder-decoder models are not served"),
    "cuda_graph_cache_size": No(_KNOBS, ("0",)),
    "cuda_graph_mode": No(_KNOBS, ("false",)),
    "decoding_mode": No("only top_k, top_p and engine.trtllm.speculative", ("auto", "top_k", "top_p", "top_k_top_p")),
    "eagle_choices": No(_HEADS),
    "enable_chunked_context": To(f"{TRTLLM}.chunked_context", _boolean),
    "enable_context_fmha_fp32_acc": No(_KNOBS, ("false",)),
    "enable_kv_cache_reuse": To(f"{TRTLLM}.kv_cache.reuse", _boolean),
    "enable_trt_overlap": No("TensorRT-LLM 1.2.1 has no such option any more", ("false",)),
    "encoder_model_path": No("encoder-decoder models are not served"),
    "exclude_input_in_output": No("an answer never repeats its prompt", ("true",)),
    "gpt_model_type": No("only in-flight batching", ("inflight_fused_batching", "inflight_batching")),
    "gpu_device_ids": No(_RANKS),
    "gpu_weights_percent": No("weights are never streamed from the host", ("1.0", "1")),
    "guided_decoding_backend": To(f"{TRTLLM}.guided_decoding", _xgrammar),
    "iter_stats_max_iterations": To(f"{_EXTRA}.llm.iter_stats_max_iterations", int),
    "kv_cache_free_gpu_mem_fraction": To(f"{TRTLLM}.kv_cache.memory_fraction", float),
    "kv_cache_host_memory_bytes": To(f"{TRTLLM}.kv_cache.host_gib", _gib),
    "kv_cache_onboard_blocks": To(f"{_EXTRA}.kv_cache.onboard_blocks", _boolean),
    "lora_cache_gpu_memory_fraction": No(_ADAPTERS),
    "lora_cache_host_memory_bytes": No(_ADAPTERS),
    "lora_cache_max_adapter_size": No(_ADAPTERS),
    "lora_cache_optimal_adapter_size": No(_ADAPTERS),
    "lora_prefetch_dir": No(_ADAPTERS),
    "max_attention_window_size": To(f"{_EXTRA}.kv_cache.max_attention_window", _numbers),
    "max_beam_width": No("there is no beam search", ("1",)),
    "max_tokens_in_paged_kv_cache": To(f"{_EXTRA}.kv_cache.max_tokens", int),
    "medusa_choices": No(_HEADS),
    "multi_block_mode": No(_KNOBS, ("true",)),
    "normalize_log_probs": To(f"{_EXTRA}.llm.normalize_log_probs", _boolean),
    "num_nodes": No(_RANKS, ("1",)),
    "participant_ids": No(_RANKS),
    "request_stats_max_iterations": To(f"{_EXTRA}.llm.request_stats_max_iterations", int),
    "sink_token_length": To(f"{_EXTRA}.kv_cache.sink_token_length", int),
    "speculative_decoding_fast_logits": No("there is no draft model of its own", ("false",)),
    "stats_check_period_ms": No("metrics are published once a second"),
    "xgrammar_tokenizer_info_path": No("made from the tokenizer at the start"),
}
# Read elsewhere, or the same in every repository of NVIDIA's.
ENGINE_ELSEWHERE = {
    "FORCE_CPU_ONLY_INPUT_TENSORS",
    "executor_worker_path",
    "gpt_model_path",
    "lookahead_ngram_size",
    "lookahead_verification_set_size",
    "lookahead_window_size",
    "tokenizer_dir",
}
TEXT: dict[str, No] = {
    "add_special_tokens": No(
        "text_input is always tokenized with the special tokens, messages with the template's", ("true",)
    ),
    "max_num_images": No(_TEXT_ONLY),
    "multimodal_model_path": No(_TEXT_ONLY),
    "skip_special_tokens": No("a request says so: the input skip_special_tokens", ("true",)),
}
TEXT_ELSEWHERE = {"engine_dir", "gpt_model_path", "tokenizer_dir", "tokenizer_type"}
BLS: dict[str, No] = {
    "accumulate_tokens": No("", ("true", "false")),  # what it cures never happens: text is decoded right token by token
    "multimodal_encoders_name": No(_TEXT_ONLY),
    "tensorrt_llm_draft_model_name": No("there is no draft model of its own: see engine.trtllm.speculative"),
    "tensorrt_llm_model_name": No("", ("tensorrt_llm",)),
}
# Those that the ensemble does not have at all; of the others the contract says what becomes of them.
INPUTS = {
    "lora_config": _ADAPTERS,
    "lora_weights": _ADAPTERS,
    "prompt_embedding_table": "no prompt tuning",
}
_LOGITS = "no engine here returns logits"
COUNTS = "cache use and acceptance are in /metrics, not in an answer"
OUTPUTS = {
    "batch_index": "an answer is to one request",
    "context_logits": _LOGITS,
    "generation_logits": _LOGITS,
    "sequence_index": "an answer is one sequence: send the request again for another",
}
PRECISIONS = {
    "W8A16": "int8",
    "W4A16": "int4",
    "W4A16_AWQ": "int4_awq",
    "W4A8_AWQ": "w4a8_awq",
    "FP8": "fp8",
    "FP8_PER_CHANNEL_PER_TOKEN": "fp8_rowwise",
    "NVFP4": "nvfp4",
}
DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "bf16"}
