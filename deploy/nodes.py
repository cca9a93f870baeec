"""What each node of a cluster runs: the engines' own programs, every option with its reason.

Rank 0 is in Triton's engine stage on the head, and gets the same arguments from the same function of the contract.
"""

from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from contract.address import address
from contract.cluster import Cluster
from contract.engines.sglang.arguments import server_args
from contract.engines.vllm.arguments import engine_args
from contract.manifest import engines_root
from contract.spec import Deployment
from deploy.fabric import Setting, environment

# What an engine does anyway is not written down.
_DEFAULTS: dict[str, Any] = {
    "pp_size": 1,
    "pipeline_parallel_size": 1,
    "ep_size": 1,
    "kv_cache_dtype": "auto",
    "load_format": "auto",
    "grammar_backend": "xgrammar",
    "enable_prefix_caching": True,
}

_WHY = {
    "model": "the engine that make engine published, at the same path on every node",
    "model_path": "the engine that make engine published, at the same path on every node",
    "trust_remote_code": "Python code in the checkpoint may run (engine.sglang.trust_remote_code)",
    "dtype": "of weights and activations (engine.precision)",
    "tp_size": "{tensor} GPUs share every layer: {nodes} nodes × {gpus} GPUs{staged} (engine.parallel.tensor)",
    "pp_size": "the layers are {pipeline} stages, one behind the other (engine.parallel.pipeline)",
    "ep_size": "{expert} groups of GPUs hold different experts (engine.parallel.expert)",
    "context_length": "prompt and answer together, tokens (limits.max_seq_len), and six that SGLang keeps to itself",
    "max_running_requests": "in the batch at once (limits.max_batch_size), and one for the supervisor's canary",
    "chunked_prefill_size": "tokens of a prompt in one step (limits.max_num_tokens)",
    "mem_fraction_static": "of each GPU, for weights and KV cache (engine.sglang.mem_fraction_static)",
    "attention_backend": "the kernels of attention (engine.sglang.attention_backend)",
    "quantization": "of the weights (engine.{runtime}.quantization)",
    "kv_cache_dtype": "of the KV cache (engine.{runtime}.kv_cache_dtype)",
    "load_format": "random weights, for measuring speed alone (engine.{runtime}.load_format)",
    "disable_cuda_graph": "a quick start and slow tokens (engine.sglang.disable_cuda_graph)",
    "disable_radix_cache": "prompts share no beginnings (engine.sglang.prefix_caching)",
    "enable_deterministic_inference": "a request's seed counts (engine.sglang.deterministic)",
    "skip_tokenizer_init": "token ids in and out: text is made in Triton's stages (engine.sglang.guided_decoding)",
    "grammar_backend": "no answer is guided (engine.sglang.guided_decoding)",
    "enable_lora": "requests may name an adapter (engine.sglang.lora)",
    "lora_paths": "the adapters (engine.sglang.lora.adapters)",
    "max_lora_rank": "of any of them (engine.sglang.lora.max_rank)",
    "max_loras_per_batch": "all of them, and none, in one batch",
    "kt_weight_path": "the CPU's experts, as kt-kernel converted them (engine.sglang.kt.weight_path)",
    "kt_num_gpu_experts": "of every layer, on the GPUs; the CPU has the rest (engine.sglang.kt.num_gpu_experts)",
    "kt_cpuinfer": "threads that compute experts (engine.sglang.kt.cpuinfer)",
    "kt_threadpool_count": "one pool of threads for each NUMA node (engine.sglang.kt.threadpool_count)",
    "kt_method": "how the CPU's experts are quantized (engine.sglang.kt.method)",
    "kt_max_deferred_experts_per_token": "that may come a layer late (engine.sglang.kt.max_deferred_experts_per_token)",
    "nnodes": "how many nodes there are (cluster.nodes)",
    "node_rank": "which of them this is; 0 is the head, which runs Triton",
    "dist_init_addr": "where the nodes find each other: the head and cluster.port",
    "master_addr": "where the nodes find each other: the head",
    "master_port": "and cluster.port on it",
    "host": "where the engine's own HTTP server listens: on the head where it runs alone, elsewhere its health "
    "(ports.host)",
    "port": "and its port (ports.http)",
    "max_model_len": "prompt and answer together, tokens (limits.max_seq_len)",
    "max_num_seqs": "in the batch at once (limits.max_batch_size), and one for the supervisor's canary",
    "max_num_batched_tokens": "tokens in one engine step (limits.max_num_tokens)",
    "enforce_eager": "no compilation and no CUDA graphs (engine.vllm.enforce_eager)",
    "enable_prefix_caching": "prompts share no beginnings (engine.vllm.prefix_caching)",
    "tensor_parallel_size": "{tensor} GPUs share every layer: {nodes} nodes × {gpus} GPUs{staged} "
    "(engine.parallel.tensor)",
    "pipeline_parallel_size": "the layers are {pipeline} stages, one behind the other (engine.parallel.pipeline)",
    "enable_expert_parallel": "GPUs hold different experts instead of a slice of each (engine.parallel.expert)",
    "generation_config": "a request's parameters are the contract's, not the checkpoint's",
    "gpu_memory_utilization": "of each GPU, for weights and KV cache (engine.vllm.gpu_memory_utilization)",
    "distributed_executor_backend": "vLLM's own processes on every node (engine.vllm.distributed_executor_backend)",
    "headless": "this node answers no requests: the head does",
}


@dataclass(frozen=True)
class Option:
    """Words of a command line, and why they stand there."""

    words: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Program:
    """A command line."""

    words: tuple[str, ...]
    options: tuple[Option, ...] = ()

    @property
    def command(self) -> tuple[str, ...]:
        """All of it."""
        return (*self.words, *(word for option in self.options for word in option.words))


@dataclass(frozen=True)
class Place:
    """One node as its command names it: in plain words, or in the variables that stand for them."""

    rank: str
    head: str  # the head's address
    own: str  # its own address


def place(cluster: Cluster, rank: int) -> Place:
    """A node of the spec."""
    return Place(str(rank), cluster.head.address, cluster.nodes[rank].address)


def uses_ray(spec: Deployment) -> bool:
    """Whether Ray holds the nodes together."""
    return spec.engine.runtime == "vllm" and spec.engine.vllm.distributed_executor_backend == "ray"


def model_path(spec: Deployment, root: PurePath) -> str:
    """The engine, as every node finds it under the checkout's root."""
    return f"{root}/{engines_root(Path(), spec.name)}/current"


def engine(spec: Deployment, cluster: Cluster, model: str, at: Place) -> Program:
    """The engine's own program on one node.

    Args:
        model: the engine's folder.
    """
    if spec.engine.runtime == "sglang":
        arguments = server_args(PurePosixPath(model), spec) | {"host": spec.ports.host, "port": spec.ports.http}
        if "nnodes" in arguments:
            arguments |= {"node_rank": at.rank, "dist_init_addr": _join(at.head, cluster.port)}
        return Program(("python3", "-m", "sglang.launch_server"), _options(spec, cluster, arguments))
    arguments = engine_args(PurePosixPath(model), spec)
    if uses_ray(spec):
        return Program(("ray", "start"), _ray(cluster, at))
    if "nnodes" in arguments:
        arguments |= {"node_rank": at.rank, "master_addr": at.head}
    door = {"host": spec.ports.host, "port": spec.ports.http}
    arguments |= door if at.rank == "0" else {"headless": True}
    options = _options(spec, cluster, {name: value for name, value in arguments.items() if name != "model"})
    return Program(("vllm", "serve"), (Option((model,), _WHY["model"]), *options))


def ray_head(cluster: Cluster, at: Place) -> Program:
    """What starts Ray on the head, before the server; it goes into the background."""
    head = Option(("--head",), "the node that keeps Ray's book")
    port = Option((f"--port={cluster.port}",), "where the other nodes find it (cluster.port)")
    return Program(("ray", "start"), (head, port, *_ray_node(cluster, at)))


def mpi(spec: Deployment, cluster: Cluster, hosts: list[str], agent: tuple[Option, ...]) -> Program:
    """What starts a rank of TensorRT-LLM on every GPU, the first one on the head.

    Args:
        hosts: of every node, as the agent reaches it.
        agent: how mpirun reaches them.
    """
    names = [setting.name for setting in environment(cluster.fabric)] if cluster.fabric else []
    slots = ",".join(f"{host}:{cluster.gpus_per_node}" for host in hosts)
    return Program(
        ("mpirun",),
        (
            Option(("-H", slots), "the nodes, the head first, and how many ranks each takes: one for every GPU"),
            Option(("-n", str(spec.engine.parallel.gpus)), "ranks in all (engine.parallel)"),
            Option(("--allow-run-as-root",), "which the image's user is"),
            *agent,
            *(Option(("-x", name), "as it is set here, on every rank") for name in names),
        ),
    )


def node_environment(spec: Deployment, cluster: Cluster, at: Place) -> tuple[Setting, ...]:
    """The environment of everything that an engine does on a node."""
    found = environment(cluster.fabric) if cluster.fabric else ()
    if spec.engine.runtime == "vllm":
        found = (
            Setting("VLLM_HOST_IP", at.own, "the address of this node by which vLLM's other nodes know it"),
            *found,
        )
    if uses_ray(spec) and at.rank == "0":
        found = (*found, Setting("RAY_ADDRESS", _join(at.own, cluster.port), "the Ray that the engine joins"))
    return found


def _ray(cluster: Cluster, at: Place) -> tuple[Option, ...]:
    return (
        Option((f"--address={_join(at.head, cluster.port)}",), "the head, and cluster.port on it"),
        *_ray_node(cluster, at),
        Option(("--block",), "stay for as long as Ray does, and take it along"),
    )


def _ray_node(cluster: Cluster, at: Place) -> tuple[Option, ...]:
    return (
        Option((f"--node-ip-address={at.own}",), "the address of this node by which the others reach it"),
        Option((f"--num-gpus={cluster.gpus_per_node}",), "of this node (cluster.gpus_per_node)"),
        Option(("--disable-usage-stats",), "tell nobody outside"),
    )


def reasons(*things: Option | Setting) -> dict[str, str]:
    """What to write beside an option's first word, or a variable's name."""
    return {each.words[0].partition("=")[0] if isinstance(each, Option) else each.name: each.why for each in things}


def _options(spec: Deployment, cluster: Cluster, arguments: dict[str, Any]) -> tuple[Option, ...]:
    """Arguments of an engine's Python interface as its command line has them."""
    return tuple(
        Option(words, _why(spec, cluster, name))
        for name, value in arguments.items()
        if _DEFAULTS.get(name) != value and (words := _words(name, value))
    )


def _words(name: str, value: Any) -> tuple[str, ...]:
    flag = name.replace("_", "-")
    if value is True:
        return (f"--{flag}",)
    if value is False:  # of those that are on by default
        return (f"--no-{flag}",) if _DEFAULTS.get(name) is True else ()
    if isinstance(value, dict):
        return (f"--{flag}", *(f"{key}={each}" for key, each in value.items()))
    return () if value is None else (f"--{flag}", str(value))


def _why(spec: Deployment, cluster: Cluster, name: str) -> str:
    parallel = spec.engine.parallel
    return _WHY[name].format(
        tensor=parallel.tensor,
        pipeline=parallel.pipeline,
        expert=parallel.expert,
        nodes=len(cluster.nodes),
        gpus=cluster.gpus_per_node,
        staged=f" in {parallel.pipeline} stages" if parallel.pipeline > 1 else "",
        runtime=spec.engine.runtime,
    )


def _join(host: str, port: int) -> str:
    """``host:port``; a variable that stands for a host has no colons of its own."""
    return f"{host}:{port}" if host.startswith("$") else address(host, port)
