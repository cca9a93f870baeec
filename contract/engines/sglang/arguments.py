"""A deployment as SGLang's server arguments: the head's, which the engine stage passes, and the other nodes', which are
written on command lines. They must be the same, as each node makes its own plan of the model."""

from pathlib import PurePath
from typing import Any

from contract.address import address
from contract.lora import ADAPTERS, Lora
from contract.spec import Deployment

_RESERVED = 6  # tokens of a context that SGLang keeps to itself, prompt and answer
_DTYPES = {"bf16": "bfloat16", "fp16": "float16"}


def server_args(engine: PurePath, spec: Deployment, positions: int = 0) -> dict[str, Any]:
    """The arguments of SGLang's ``ServerArgs`` on the head; None and False are SGLang's own defaults.

    Args:
        positions: those that the model has; 0 where its checkpoint is not at hand: more than limits.max_seq_len.
    """
    options, limits, parallel = spec.engine.sglang, spec.limits, spec.engine.parallel
    return {
        "model_path": str(engine),
        "trust_remote_code": options.trust_remote_code,
        "dtype": _DTYPES[spec.engine.precision],
        "tp_size": parallel.tensor,
        "pp_size": parallel.pipeline,
        "ep_size": parallel.expert,
        "context_length": min(limits.max_seq_len + _RESERVED, positions or limits.max_seq_len + _RESERVED),
        "max_running_requests": limits.max_batch_size + 1,  # one for the supervisor's canary
        "chunked_prefill_size": limits.max_num_tokens,
        "mem_fraction_static": options.mem_fraction_static,
        "attention_backend": options.attention_backend,
        "quantization": options.quantization,
        "kv_cache_dtype": options.kv_cache_dtype,
        "load_format": options.load_format,
        "disable_cuda_graph": options.disable_cuda_graph,
        "disable_radix_cache": not options.prefix_caching,
        "enable_deterministic_inference": options.deterministic,
        "skip_tokenizer_init": not options.guided_decoding,
        "grammar_backend": "xgrammar" if options.guided_decoding else "none",
        **_adapters(engine, options.lora),
        **(options.kt.arguments() if options.kt else {}),
        **_over_nodes(spec),
    }


def _adapters(engine: PurePath, lora: Lora | None) -> dict[str, Any]:
    if lora is None:
        return {}
    return {
        "enable_lora": True,
        "lora_paths": {name: str(engine / ADAPTERS / name) for name in lora.names},
        "max_lora_rank": lora.max_rank,
        "max_loras_per_batch": len(lora.names) + 1,  # those, and none
    }


def _over_nodes(spec: Deployment) -> dict[str, Any]:
    """How the nodes of a cluster find each other; nothing on one machine."""
    cluster = spec.cluster
    if cluster is None or len(cluster.nodes) == 1:
        return {}
    return {
        "nnodes": len(cluster.nodes),
        "node_rank": 0,
        "dist_init_addr": address(cluster.head.address, cluster.port),
    }
