"""What of ``engine`` cannot go together with runtime trtllm: a table of rules over the spec alone.

A rule returns ``key: what is wrong and what to do``, or ''. Rules that need the checkpoint are in build/trtllm/fit.py.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from contract.engines.trtllm.api import misfit, unknown, version
from contract.engines.trtllm.images import PINNED, inside, release
from contract.engines.trtllm.options import Calibration, Extra, TrtllmSpec
from contract.gpus import GPUS, MIN_SM, generation

if TYPE_CHECKING:
    from contract.spec import Deployment

# What may be asked of the weights; an engine is quantized while it is built, pytorch takes them as they are.
ENGINE_PRECISIONS = ("bf16", "fp16", "int8", "int4", "int4_awq", "int8_sq", "w4a8_awq", "fp8", "fp8_rowwise", "nvfp4")
PYTORCH_PRECISIONS = ("bf16", "fp16", "int4_awq", "w4a8_awq", "fp8", "fp8_rowwise", "fp8_block", "nvfp4")
HERE = "engine.trtllm"
CALIBRATED = ("int4_awq", "int8_sq", "w4a8_awq", "fp8", "nvfp4")

# What the spec says elsewhere: section of extra → argument → key.
_OURS = {
    "llm": {
        "model": "source",
        "tensor_parallel_size": "engine.parallel.tensor",
        "pipeline_parallel_size": "engine.parallel.pipeline",
        "moe_expert_parallel_size": "engine.parallel.expert",
        "gpus_per_node": "gpus_per_node",
        "dtype": "engine.precision",
        "backend": "backend",
        "skip_tokenizer_init": "guided_decoding",
        "guided_decoding_backend": "guided_decoding",
        "gather_generation_logits": "log_probs",
        "enable_chunked_prefill": "chunked_context",
        "enable_attention_dp": "attention_dp",
        "fast_build": "fast_build",
        "max_batch_size": "limits.max_batch_size",
        "max_input_len": "limits.max_input_len",
        "max_seq_len": "limits.max_seq_len",
        "max_num_tokens": "limits.max_num_tokens",
        "enable_lora": "lora",
        "lora_config": "lora",
    },
    "build": {
        "max_batch_size": "limits.max_batch_size",
        "max_input_len": "limits.max_input_len",
        "max_seq_len": "limits.max_seq_len",
        "max_num_tokens": "limits.max_num_tokens",
        "gather_generation_logits": "log_probs",
        "max_draft_len": "speculative",
        "lora_config": "lora",
    },
    "plugin": {"multiple_profiles": "multiple_profiles", "tokens_per_block": "kv_cache.tokens_per_block"},
    "kv_cache": {
        "enable_block_reuse": "kv_cache.reuse",
        "free_gpu_memory_fraction": "kv_cache.memory_fraction",
        "host_cache_size": "kv_cache.host_gib",
        "tokens_per_block": "kv_cache.tokens_per_block",
        "dtype": "kv_cache.precision",
    },
    "scheduler": {"capacity_scheduler_policy": "scheduler"},
    "quant": {"quant_algo": "engine.precision", "kv_cache_quant_algo": "kv_cache.precision"},
    "calibration": {
        "calib_dataset": "calibration.dataset",
        "calib_batches": "calibration.batches",
        "calib_batch_size": "calibration.batch_size",
        "calib_max_seq_length": "calibration.max_seq_len",
    },
}


def faults(spec: "Deployment") -> list[str]:
    """Everything that cannot go together, one line a fault."""
    options = spec.engine.trtllm
    return [fault for rule in RULES for fault in [rule(spec, options)] if fault]


def _precision(spec: "Deployment", options: TrtllmSpec) -> str:
    known = ENGINE_PRECISIONS if options.backend == "tensorrt" else PYTORCH_PRECISIONS
    if spec.engine.precision in known:
        return ""
    other = PYTORCH_PRECISIONS if options.backend == "tensorrt" else ENGINE_PRECISIONS
    way_out = ""
    if spec.engine.precision in other:
        way_out = f", or backend {'pytorch' if options.backend == 'tensorrt' else 'tensorrt'}"
    return (
        f"engine.precision: {spec.engine.precision} is none of TensorRT-LLM's for backend {options.backend}. "
        f"Use {', '.join(known)}{way_out}"
    )


def _gpu_precision(spec: "Deployment", options: TrtllmSpec) -> str:
    return _too_old("engine.precision", spec.engine.precision, options)


def _gpu_cache(spec: "Deployment", options: TrtllmSpec) -> str:
    return _too_old(f"{HERE}.kv_cache.precision", options.kv_cache.precision, options)


def _too_old(key: str, precision: str, options: TrtllmSpec) -> str:
    if options.gpu is None or precision not in MIN_SM:
        return ""
    sm, names = MIN_SM[precision]
    if GPUS[options.gpu].sm >= sm:
        return ""
    return (
        f"{key}: {precision} needs {generation(sm)} or newer ({names}), gpu {options.gpu} is "
        f"{generation(GPUS[options.gpu].sm)}. Use {'auto' if 'cache' in key else 'bf16 or int4_awq'}, or other GPUs"
    )


def _cache_precision(spec: "Deployment", options: TrtllmSpec) -> str:
    wanted = options.kv_cache.precision
    if options.backend == "tensorrt" and wanted == "nvfp4":
        return f"{HERE}.kv_cache.precision: {version()} cannot build nvfp4 into an engine. Use fp8, or backend pytorch"
    if options.backend == "pytorch" and wanted == "int8":
        return f"{HERE}.kv_cache.precision: int8 is of engines only. Use fp8, or backend tensorrt"
    return ""


def _cache_int8_with_fp8(spec: "Deployment", options: TrtllmSpec) -> str:
    if options.kv_cache.precision == "int8" and spec.engine.precision in ("fp8", "nvfp4", "w4a8_awq"):
        return f"{HERE}.kv_cache.precision: int8 contradicts engine.precision {spec.engine.precision}. Use fp8"
    return ""


def _step_holds_the_prompt(spec: "Deployment", options: TrtllmSpec) -> str:
    limits = spec.limits
    if options.chunked_context or limits.max_num_tokens >= limits.max_input_len:
        return ""
    return (
        f"limits.max_num_tokens: {limits.max_num_tokens} is below limits.max_input_len ({limits.max_input_len}), and "
        "without chunked_context a prompt is one step. Raise it, or set engine.trtllm.chunked_context: true"
    )


def _step_holds_the_batch(spec: "Deployment", options: TrtllmSpec) -> str:
    limits = spec.limits
    if limits.max_num_tokens >= limits.max_batch_size:
        return ""
    return (
        f"limits.max_num_tokens: {limits.max_num_tokens} is below limits.max_batch_size ({limits.max_batch_size}), and "
        "each request of a step has one token at least. Raise it"
    )


def _step_holds_a_block(spec: "Deployment", options: TrtllmSpec) -> str:
    block = options.kv_cache.tokens_per_block
    if options.chunked_context and spec.limits.max_num_tokens < block:
        return (
            f"limits.max_num_tokens: {spec.limits.max_num_tokens} is below kv_cache.tokens_per_block ({block}), and "
            "a piece of a prompt is a block at least. Raise it"
        )
    return ""


def _block_is_a_power(spec: "Deployment", options: TrtllmSpec) -> str:
    block = options.kv_cache.tokens_per_block
    if block & (block - 1) == 0:
        return ""
    return f"{HERE}.kv_cache.tokens_per_block: must be a power of 2, got {block}. 32 is usual"


def _engines_only(spec: "Deployment", options: TrtllmSpec) -> str:
    if options.backend == "tensorrt":
        return ""
    default = TrtllmSpec()
    engines_own = ("multiple_profiles", "fast_build", "calibration")
    given = {name for name in engines_own if getattr(options, name) != getattr(default, name)}
    given |= {f"extra.{name}" for name in ("build", "plugin", "quant", "calibration") if getattr(options.extra, name)}
    if given:
        return f"{HERE}.{min(given)}: is of engines only, and backend pytorch builds none. Leave it out"
    return ""


def _pytorch_only(spec: "Deployment", options: TrtllmSpec) -> str:
    if options.backend == "tensorrt" and options.attention_dp:
        return f"{HERE}.attention_dp: is of backend pytorch only. Leave it out"
    return ""


def _speculation(spec: "Deployment", options: TrtllmSpec) -> str:
    kind = options.speculative.kind if options.speculative else ""
    if options.backend == "pytorch" and kind in ("lookahead", "medusa"):
        return f"{HERE}.speculative: {kind} is of engines only. Use eagle, or backend tensorrt"
    if kind and options.log_probs:
        return f"{HERE}.log_probs: cannot be had with speculative {kind}. Leave one of them out"
    return ""


def _calibration(spec: "Deployment", options: TrtllmSpec) -> str:
    if options.calibration == Calibration() or options.backend == "pytorch":
        return ""
    if spec.engine.precision in CALIBRATED or options.kv_cache.precision in ("fp8", "int8"):
        return ""
    return f"{HERE}.calibration: engine.precision {spec.engine.precision} needs none. Leave it out"


def _offline_calibration(spec: "Deployment", options: TrtllmSpec) -> str:
    needed = spec.engine.precision in CALIBRATED or options.kv_cache.precision in ("fp8", "int8")
    offline = not options.container.network
    if options.backend == "tensorrt" and needed and offline and not options.calibration.dataset.startswith(("/", "~")):
        return (
            f"{HERE}.calibration.dataset: {options.calibration.dataset} comes over the network, and "
            "container.network is false. Name a folder that holds it"
        )
    return ""


def _image(spec: "Deployment", options: TrtllmSpec) -> str:
    image = options.container.image
    found = inside(image)
    if found is None or found.tensorrt_llm == version():
        return ""
    return (
        f"{HERE}.container.image: {release(image)} has TensorRT-LLM {found.tensorrt_llm}, and this project speaks to "
        f"{version()}. Use {PINNED}"
    )


def _nodes(spec: "Deployment", options: TrtllmSpec) -> str:
    gpus, per_node = spec.engine.parallel.gpus, options.gpus_per_node
    if gpus <= per_node or gpus % per_node == 0:
        return ""
    return f"engine.parallel: {gpus} GPUs are no whole number of nodes of {per_node} (gpus_per_node). Fill every node"


def _cpu_cache(spec: "Deployment", options: TrtllmSpec) -> str:
    if spec.limits.kv_cache_gib != type(spec.limits)().kv_cache_gib:
        return "limits.kv_cache_gib: is of the CPU's engine. Use engine.trtllm.kv_cache.memory_fraction"
    return ""


def _extra(spec: "Deployment", options: TrtllmSpec) -> str:
    calls = extra_calls(options)
    for section in Extra.model_fields:
        for name, value in getattr(options.extra, section).items():
            wrong = unknown(calls[section], name)
            if wrong:
                return f"{HERE}.extra.{section}.{name}: {wrong}"
            if name in _OURS[section]:
                return f"{HERE}.extra.{section}.{name}: is what {_OURS[section][name]} sets. Use that"
            wrong = misfit(calls[section], name, value)
            if wrong:
                return f"{HERE}.extra.{section}.{name}: {wrong}"
    return ""


def extra_calls(options: TrtllmSpec) -> dict[str, str]:
    """Section of extra → the call that takes its arguments."""
    return {
        "llm": "TensorRtLlm" if options.backend == "tensorrt" else "TorchLlm",
        "build": "BuildConfig",
        "plugin": "PluginConfig",
        "kv_cache": "KvCacheConfig",
        "scheduler": "SchedulerConfig",
        "quant": "QuantConfig",
        "calibration": "CalibConfig",
    }


RULES: tuple[Callable[["Deployment", TrtllmSpec], str], ...] = (
    _precision,
    _gpu_precision,
    _gpu_cache,
    _cache_precision,
    _cache_int8_with_fp8,
    _step_holds_the_prompt,
    _step_holds_the_batch,
    _step_holds_a_block,
    _block_is_a_power,
    _engines_only,
    _pytorch_only,
    _speculation,
    _calibration,
    _offline_calibration,
    _image,
    _nodes,
    _cpu_cache,
    _extra,
)
