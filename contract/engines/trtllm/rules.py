"""What of ``engine`` cannot go together with runtime trtllm: rules over the spec alone.

Each yields ``key: what is wrong and what to do``. Rules that need the checkpoint are in build/trtllm/fit.py.
"""

from collections.abc import Iterator

from contract.engines.trtllm.api import misfit, unknown, version
from contract.engines.trtllm.images import PINNED, inside, release
from contract.engines.trtllm.options import Calibration, TrtllmSpec
from contract.gpus import GPUS, MIN_SM
from contract.sections import Limits, Sections

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


def faults(spec: Sections) -> Iterator[str]:
    """Everything that cannot go together, one line a fault."""
    options = spec.engine.trtllm
    if spec.engine.runtime != "trtllm":
        if options != TrtllmSpec():
            yield f"{HERE}: is of runtime trtllm, and engine.runtime is {spec.engine.runtime}"
        return
    for rule in (_precision, _cache, _steps, _of_the_backend, _speculation, _calibration, _machines, _extra):
        yield from rule(spec, options)


def _precision(spec: Sections, options: TrtllmSpec) -> Iterator[str]:
    wanted, backends = spec.engine.precision, {"tensorrt": ENGINE_PRECISIONS, "pytorch": PYTORCH_PRECISIONS}
    known = backends.pop(options.backend)
    if wanted not in known:
        way_out = "".join(f", or backend {other}" for other, precisions in backends.items() if wanted in precisions)
        yield (
            f"engine.precision: {wanted} is none of TensorRT-LLM's for backend {options.backend}. "
            f"Use {', '.join(known)}{way_out}"
        )
    yield from _too_old("engine.precision", wanted, "bf16 or int4_awq", options)


def _too_old(key: str, precision: str, instead: str, options: TrtllmSpec) -> Iterator[str]:
    sm, names = MIN_SM.get(precision, (0, ""))
    if options.gpu and GPUS[options.gpu].sm < sm:
        yield (
            f"{key}: {precision} needs sm{sm} or newer ({names}), gpu {options.gpu} is sm{GPUS[options.gpu].sm}. "
            f"Use {instead}, or other GPUs"
        )


def _cache(spec: Sections, options: TrtllmSpec) -> Iterator[str]:
    key, wanted = f"{HERE}.kv_cache.precision", options.kv_cache.precision
    yield from _too_old(key, wanted, "auto", options)
    if options.backend == "tensorrt" and wanted == "nvfp4":
        yield f"{key}: {version()} cannot build nvfp4 into an engine. Use fp8, or backend pytorch"
    if options.backend == "pytorch" and wanted == "int8":
        yield f"{key}: int8 is of engines only. Use fp8, or backend tensorrt"
    if wanted == "int8" and spec.engine.precision in ("fp8", "nvfp4", "w4a8_awq"):
        yield f"{key}: int8 contradicts engine.precision {spec.engine.precision}. Use fp8"


def _steps(spec: Sections, options: TrtllmSpec) -> Iterator[str]:
    limits, block = spec.limits, options.kv_cache.tokens_per_block
    step = limits.max_num_tokens
    if not options.chunked_context and step < limits.max_input_len:
        yield (
            f"limits.max_num_tokens: {step} is below limits.max_input_len ({limits.max_input_len}), and "
            "without chunked_context a prompt is one step. Raise it, or set engine.trtllm.chunked_context: true"
        )
    if step < limits.max_batch_size:
        yield (
            f"limits.max_num_tokens: {step} is below limits.max_batch_size ({limits.max_batch_size}), and "
            "each request of a step has one token at least. Raise it"
        )
    if options.chunked_context and step < block:
        yield (
            f"limits.max_num_tokens: {step} is below kv_cache.tokens_per_block ({block}), and "
            "a piece of a prompt is a block at least. Raise it"
        )
    if block & (block - 1):
        yield f"{HERE}.kv_cache.tokens_per_block: must be a power of 2, got {block}. 32 is usual"


def _of_the_backend(spec: Sections, options: TrtllmSpec) -> Iterator[str]:
    if options.backend == "tensorrt":
        if options.attention_dp:
            yield f"{HERE}.attention_dp: is of backend pytorch only. Leave it out"
        return
    default = TrtllmSpec()
    engines_own = ("multiple_profiles", "fast_build", "calibration")
    given = {name for name in engines_own if getattr(options, name) != getattr(default, name)}
    given |= {f"extra.{name}" for name in ("build", "plugin", "quant", "calibration") if getattr(options.extra, name)}
    if given:
        yield f"{HERE}.{min(given)}: is of engines only, and backend pytorch builds none. Leave it out"


def _speculation(spec: Sections, options: TrtllmSpec) -> Iterator[str]:
    kind = options.speculative.kind if options.speculative else ""
    if options.backend == "pytorch" and kind in ("lookahead", "medusa"):
        yield f"{HERE}.speculative: {kind} is of engines only. Use eagle, or backend tensorrt"
    elif kind and options.log_probs:
        yield f"{HERE}.log_probs: cannot be had with speculative {kind}. Leave one of them out"


def _calibration(spec: Sections, options: TrtllmSpec) -> Iterator[str]:
    if options.backend == "pytorch":
        return
    wanted = options.calibration
    needed = spec.engine.precision in CALIBRATED or options.kv_cache.precision in ("fp8", "int8")
    if not needed and wanted != Calibration():
        yield f"{HERE}.calibration: engine.precision {spec.engine.precision} needs none. Leave it out"
    if needed and not options.container.network and not wanted.dataset.startswith(("/", "~")):
        yield (
            f"{HERE}.calibration.dataset: {wanted.dataset} comes over the network, and "
            "container.network is false. Name a folder that holds it"
        )


def _machines(spec: Sections, options: TrtllmSpec) -> Iterator[str]:
    image = options.container.image
    found = inside(image)
    if found and found.tensorrt_llm != version():
        yield (
            f"{HERE}.container.image: {release(image)} has TensorRT-LLM {found.tensorrt_llm}, and this project speaks "
            f"to {version()}. Use {PINNED}"
        )
    gpus, node = spec.engine.parallel.gpus, options.gpus_per_node
    if gpus > node and gpus % node:
        yield f"engine.parallel: {gpus} GPUs are no whole number of nodes of {node} (gpus_per_node). Fill every node"
    if spec.limits.kv_cache_gib != Limits().kv_cache_gib:
        yield "limits.kv_cache_gib: is of the CPU's engine. Use engine.trtllm.kv_cache.memory_fraction"


def _extra(spec: Sections, options: TrtllmSpec) -> Iterator[str]:
    """The first that is not to be passed on."""
    for section, call in extra_calls(options).items():
        for name, value in getattr(options.extra, section).items():
            ours = f"is what {_OURS[section][name]} sets. Use that" if name in _OURS[section] else ""
            if wrong := unknown(call, name) or ours or misfit(call, name, value):
                yield f"{HERE}.extra.{section}.{name}: {wrong}"
                return


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
