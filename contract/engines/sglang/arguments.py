"""A deployment as SGLang's server arguments: the head's, which the engine stage passes, and the other nodes', which are
written on command lines. They must be the same, as each node makes its own plan of the model."""

from pathlib import PurePath
from typing import Any

from contract.address import address
from contract.engines.speculative import DRAFT, Head, Ngram
from contract.engines.told import BATCH, DTYPE, MODEL, NODES, RANK, Told, shared_layers, stages, values
from contract.lora import ADAPTERS, Lora
from contract.spec import Deployment

_RESERVED = 6  # tokens of a context that SGLang keeps to itself, prompt and answer
_ALGORITHMS = {"mtp": "nextn"}  # where SGLang has another name
_DTYPES = {"bf16": "bfloat16", "fp16": "float16"}


def server_args(engine: PurePath, spec: Deployment, positions: int = 0) -> dict[str, Any]:
    """The arguments of SGLang's ``ServerArgs`` on the head; as for :func:`told`."""
    return values(told(engine, spec, positions))


def told(engine: PurePath, spec: Deployment, positions: int = 0) -> Told:
    """The same with their reasons; None and False are SGLang's own defaults.

    Args:
        positions: those that the model has; 0 where its checkpoint is not at hand: more than limits.max_seq_len.
    """
    options, limits, parallel = spec.engine.sglang, spec.limits, spec.engine.parallel
    context = limits.max_seq_len + _RESERVED
    guided = options.guided_decoding

    def option(name: str, why: str, value: Any = None) -> tuple[Any, str]:
        return getattr(options, name) if value is None else value, f"{why} (engine.sglang.{name})"

    return {
        "model_path": (str(engine), MODEL),
        "trust_remote_code": option("trust_remote_code", "Python code in the checkpoint may run"),
        "dtype": (_DTYPES[spec.engine.precision], DTYPE),
        "tp_size": (parallel.tensor, shared_layers(spec)),
        "pp_size": (parallel.pipeline, stages(spec)),
        "ep_size": (
            parallel.expert,
            f"{parallel.expert} groups of GPUs hold different experts (engine.parallel.expert)",
        ),
        "context_length": (
            min(context, positions or context),
            "prompt and answer together, tokens (limits.max_seq_len), and six that SGLang keeps to itself",
        ),
        "max_running_requests": (limits.max_batch_size + 1, BATCH),
        "chunked_prefill_size": (limits.max_num_tokens, "tokens of a prompt in one step (limits.max_num_tokens)"),
        "mem_fraction_static": option("mem_fraction_static", "of each GPU, for weights and KV cache"),
        "attention_backend": option("attention_backend", "the kernels of attention"),
        "quantization": option("quantization", "of the weights"),
        "kv_cache_dtype": option("kv_cache_dtype", "of the KV cache"),
        "load_format": option("load_format", "random weights, for measuring speed alone"),
        "disable_cuda_graph": option("disable_cuda_graph", "a quick start and slow tokens"),
        "disable_radix_cache": option("prefix_caching", "prompts share no beginnings", not options.prefix_caching),
        "enable_deterministic_inference": option("deterministic", "a request's seed counts"),
        "skip_tokenizer_init": option(
            "guided_decoding", "token ids in and out: text is made in Triton's stages", not guided
        ),
        "grammar_backend": option("guided_decoding", "no answer is guided", "xgrammar" if guided else "none"),
        **_adapters(engine, options.lora),
        **_speculation(engine, spec),
        **(options.kt.arguments() if options.kt else {}),
        **_over_nodes(spec),
    }


def _adapters(engine: PurePath, lora: Lora | None) -> Told:
    if lora is None:
        return {}
    paths = {name: str(engine / ADAPTERS / name) for name in lora.names}
    return {
        "enable_lora": (True, "requests may name an adapter (engine.sglang.lora)"),
        "lora_paths": (paths, "the adapters (engine.sglang.lora.adapters)"),
        "max_lora_rank": (lora.max_rank, "of any of them (engine.sglang.lora.max_rank)"),
        "max_loras_per_batch": (len(lora.names) + 1, "all of them, and none, in one batch"),
    }


def _speculation(engine: PurePath, spec: Deployment) -> Told:
    """One chain of guesses a step, as vLLM has it; SGLang could check a tree of them."""
    speculative = spec.engine.sglang.speculative
    if speculative is None:
        return {}
    what = "(engine.sglang.speculative)"
    checked = (speculative.tokens + 1, f"the tokens that are guessed ahead, and the one that is known {what}")
    algorithm = (_ALGORITHMS.get(speculative.kind, speculative.kind).upper(), f"how tokens are guessed {what}")
    told: Told = {"speculative_algorithm": algorithm, "speculative_num_draft_tokens": checked}
    if isinstance(speculative, Ngram):
        depth = speculative.longest_match + speculative.tokens
        return told | {
            "speculative_ngram_max_bfs_breadth": (1, f"one guess at a time {what}"),
            "speculative_ngram_max_trie_depth": (depth, f"what is looked up and what follows it, tokens {what}"),
        }
    if isinstance(speculative, Head):
        told["speculative_draft_model_path"] = (str(engine / DRAFT), f"the draft model {what}")
    return told | {
        "speculative_num_steps": (speculative.tokens, f"guessed one after the other {what}"),
        "speculative_eagle_topk": (1, f"one guess at a time {what}"),
    }


def _over_nodes(spec: Deployment) -> Told:
    """How the nodes of a cluster find each other; nothing on one machine."""
    cluster = spec.cluster
    if cluster is None or len(cluster.nodes) == 1:
        return {}
    at = address(cluster.head.address, cluster.port)
    return {
        "nnodes": (len(cluster.nodes), NODES),
        "node_rank": (0, RANK),
        "dist_init_addr": (at, "where the nodes find each other: the head and cluster.port"),
    }
