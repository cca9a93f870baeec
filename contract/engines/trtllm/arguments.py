"""A deployment spec as the calls that TensorRT-LLM gets: once to build an engine, once to serve it."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from contract.engines.speculative import DRAFT
from contract.engines.trtllm.calls import Call, Member
from contract.engines.trtllm.options import Eagle, Lookahead, Medusa, TrtllmSpec
from contract.engines.trtllm.rules import CALIBRATED
from contract.lora import ADAPTERS, Lora
from contract.spec import Deployment

# What lies in an engine folder beside the tokenizer and the manifest.
WEIGHTS = "trtllm"  # the engine, or the checkpoint of backend pytorch

_QUANT_ALGO = {
    "int8": "W8A16",
    "int4": "W4A16",
    "int4_awq": "W4A16_AWQ",
    "int8_sq": "W8A8_SQ_PER_CHANNEL",
    "w4a8_awq": "W4A8_AWQ",
    "fp8": "FP8",
    "fp8_rowwise": "FP8_PER_CHANNEL_PER_TOKEN",
    "fp8_block": "FP8_BLOCK_SCALES",
    "nvfp4": "NVFP4",
}
_DTYPE = {"bf16": "bfloat16", "fp16": "float16"}
GIB = 2**30


def quant_algo(precision: str) -> str:
    """TensorRT-LLM's name of a precision; '' for one without quantization."""
    return _QUANT_ALGO.get(precision, "")


def build_call(
    spec: Deployment,
    *,
    checkpoint: str,
    folder: PurePosixPath,
    workspace: str,
    kernels: str,
    new_kernels: str,
    adapted: Sequence[str] = (),
) -> Call:
    """What builds the engine: an LLM of a Hugging Face checkpoint, which is then saved.

    Args:
        checkpoint: the Hugging Face folder, as the builder sees it.
        folder: the engine folder, which has the adapters and the draft model.
        workspace: a folder for what is needed on the way.
        kernels: the timing cache of earlier builds; '' if there is none.
        new_kernels: where this build's goes.
        adapted: the modules that the adapters change (contract/engines/trtllm/lora.py).
    """
    options = spec.engine.trtllm
    arguments = _parallel(spec) | {
        "model": checkpoint,
        "skip_tokenizer_init": False,
        "dtype": _dtype(spec),
        "workspace": workspace,
        "fast_build": options.fast_build,
        "build_config": _build_config(spec, folder, kernels, new_kernels, adapted),
        "quant_config": _quant_config(spec),
        "enable_chunked_prefill": options.chunked_context,
        "gather_generation_logits": options.log_probs,
    }
    if _calibrates(spec):
        arguments["calib_config"] = _calibration(options)
    return Call("TensorRtLlm", arguments | _adapted(spec, folder, adapted) | options.extra.llm)


def serve_call(spec: Deployment, folder: PurePosixPath, adapted: Sequence[str] = ()) -> Call:
    """What serves an engine folder; ``adapted`` as for :func:`build_call`."""
    options, limits = spec.engine.trtllm, spec.limits
    arguments = _parallel(spec) | {
        "model": str(folder / WEIGHTS),
        # Guided decoding reads the vocabulary from the tokenizer; nothing else needs one.
        "skip_tokenizer_init": not options.guided_decoding,
        "kv_cache_config": _kv_cache(options),
        "scheduler_config": _scheduler(options),
        "enable_chunked_prefill": options.chunked_context,
        "max_batch_size": batch_size(spec),
        "max_num_tokens": limits.max_num_tokens,
        "max_seq_len": limits.max_seq_len,
    }
    if options.guided_decoding:
        arguments |= {"tokenizer": str(folder), "guided_decoding_backend": "xgrammar"}
    if options.backend == "tensorrt":
        arguments |= {"max_input_len": limits.max_input_len, "gather_generation_logits": options.log_probs}
        if options.cuda_graphs is not None:
            knobs = {"cuda_graph_mode": options.cuda_graphs}
            arguments["extended_runtime_perf_knob_config"] = Call("ExtendedRuntimePerfKnobConfig", knobs)
        name = "TensorRtLlm"
    else:
        arguments |= {
            "dtype": _dtype(spec),
            "enable_attention_dp": options.attention_dp,
            "enable_iter_perf_stats": True,
        }
        if options.cuda_graphs is not None:
            graphs = Call("CudaGraphConfig", {"max_batch_size": batch_size(spec)}) if options.cuda_graphs else None
            arguments["cuda_graph_config"] = graphs
        name = "TorchLlm"
    return Call(name, arguments | _adapted(spec, folder, adapted) | options.extra.llm)


def batch_size(spec: Deployment) -> int:
    """Requests in a batch: those of the spec, and one for the supervisor's canary."""
    return spec.limits.max_batch_size + 1


def _parallel(spec: Deployment) -> dict[str, Any]:
    parallel = spec.engine.parallel
    arguments: dict[str, Any] = {
        "tensor_parallel_size": parallel.tensor,
        "pipeline_parallel_size": parallel.pipeline,
        "gpus_per_node": min(spec.engine.trtllm.gpus_per_node, parallel.gpus),
    }
    if parallel.expert > 1:
        arguments["moe_expert_parallel_size"] = parallel.expert
        arguments["moe_tensor_parallel_size"] = parallel.tensor // parallel.expert
    return arguments


def _dtype(spec: Deployment) -> str:
    return _DTYPE.get(spec.engine.precision, "auto")


def _calibrates(spec: Deployment) -> bool:
    return spec.engine.precision in CALIBRATED or spec.engine.trtllm.kv_cache.precision in ("fp8", "int8")


def _build_config(
    spec: Deployment, folder: PurePosixPath, kernels: str, new_kernels: str, adapted: Sequence[str]
) -> Call:
    options, limits = spec.engine.trtllm, spec.limits
    arguments: dict[str, Any] = {
        "max_input_len": limits.max_input_len,
        "max_seq_len": limits.max_seq_len,
        "max_batch_size": batch_size(spec),
        "max_num_tokens": limits.max_num_tokens,
        "gather_generation_logits": options.log_probs,
        "plugin_config": _plugins(spec),
        "output_timing_cache": new_kernels,
    }
    if kernels:
        arguments["input_timing_cache"] = kernels
    if options.lora:  # the LLM's own adds no more than a rank to it
        arguments["lora_config"] = _lora_config(options.lora, folder, adapted)
    if isinstance(options.speculative, Eagle):
        arguments["max_draft_len"] = options.speculative.max_draft_len
    if isinstance(options.speculative, Medusa):
        arguments["max_draft_len"] = len(options.speculative.choices)
    return Call("BuildConfig", arguments | options.extra.build)


def _plugins(spec: Deployment) -> Call:
    options = spec.engine.trtllm
    arguments: dict[str, Any] = {
        "multiple_profiles": options.multiple_profiles,
        "tokens_per_block": options.kv_cache.tokens_per_block,
        "use_paged_context_fmha": options.chunked_context or options.kv_cache.reuse,
    }
    if spec.engine.precision == "nvfp4":
        arguments["gemm_plugin"] = "nvfp4"
    if options.kv_cache.precision == "fp8" and spec.engine.precision in ("fp8", "nvfp4"):
        arguments["use_fp8_context_fmha"] = True
    return Call("PluginConfig", arguments | options.extra.plugin)


def _quant_config(spec: Deployment) -> Call:
    arguments: dict[str, Any] = {}
    if algo := quant_algo(spec.engine.precision):
        arguments["quant_algo"] = Member("QuantAlgo", algo)
    cache = spec.engine.trtllm.kv_cache.precision
    if cache != "auto":
        arguments["kv_cache_quant_algo"] = Member("QuantAlgo", cache.upper())
    return Call("QuantConfig", arguments | spec.engine.trtllm.extra.quant)


def _calibration(options: TrtllmSpec) -> Call:
    wanted = options.calibration
    arguments = {
        "calib_dataset": wanted.dataset,
        "calib_batches": wanted.batches,
        "calib_batch_size": wanted.batch_size,
        "calib_max_seq_length": wanted.max_seq_len,
    }
    return Call("CalibConfig", arguments | options.extra.calibration)


def _kv_cache(options: TrtllmSpec) -> Call:
    wanted = options.kv_cache
    arguments: dict[str, Any] = {
        "enable_block_reuse": wanted.reuse,
        "free_gpu_memory_fraction": wanted.memory_fraction,
        "tokens_per_block": wanted.tokens_per_block,
    }
    if wanted.host_gib:
        arguments["host_cache_size"] = wanted.host_gib * GIB
    if options.backend == "pytorch":  # an engine's is built in
        arguments["dtype"] = wanted.precision
    return Call("KvCacheConfig", arguments | options.extra.kv_cache)


def _scheduler(options: TrtllmSpec) -> Call:
    policy = Member("CapacitySchedulerPolicy", options.scheduler.upper())
    return Call("SchedulerConfig", {"capacity_scheduler_policy": policy} | options.extra.scheduler)


def _lora_config(lora: Lora, folder: PurePosixPath, adapted: Sequence[str]) -> Call:
    arguments = {
        "lora_dir": [str(folder / ADAPTERS / name) for name in lora.names],
        "lora_target_modules": list(adapted),
        "max_lora_rank": lora.max_rank,
        "max_loras": len(lora.names),
        "max_cpu_loras": len(lora.names),
    }
    return Call("LoraConfig", arguments)


def _adapted(spec: Deployment, folder: PurePosixPath, adapted: Sequence[str]) -> dict[str, Any]:
    """LoRA and speculation, which the build and the server are both told."""
    options = spec.engine.trtllm
    arguments: dict[str, Any] = {}
    if options.lora:
        arguments |= {"enable_lora": True, "lora_config": _lora_config(options.lora, folder, adapted)}
    match options.speculative:
        case Lookahead(window=window, ngram=ngram, verification=verification):
            sizes = {"max_window_size": window, "max_ngram_size": ngram, "max_verification_set_size": verification}
            arguments["speculative_config"] = Call("LookaheadDecodingConfig", sizes)
        case Medusa(heads=heads, choices=choices):
            medusa = {
                "speculative_model": str(folder / DRAFT),
                "num_medusa_heads": heads,
                "max_draft_len": len(choices),
            }
            tree = {"medusa_choices": [list(path) for path in choices]}
            arguments["speculative_config"] = Call("MedusaDecodingConfig", medusa | tree)
        case Eagle(max_draft_len=length, choices=choices):
            eagle: dict[str, Any] = {"speculative_model": str(folder / DRAFT), "max_draft_len": length}
            if choices:
                eagle["eagle_choices"] = [list(path) for path in choices]
            arguments["speculative_config"] = Call("EagleDecodingConfig", eagle)
    return arguments
