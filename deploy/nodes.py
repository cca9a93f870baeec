"""What each node of a cluster runs: the engines' own programs, every option with its reason.

Rank 0 is in Triton's engine stage on the head, and gets the same arguments from the same function of the contract.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from contract.address import address
from contract.cluster import Cluster
from contract.engines.kinds import Runtime
from contract.engines.sglang import arguments as sglang
from contract.engines.told import Told
from contract.engines.vllm import arguments as vllm
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
    return spec.engine.vllm.distributed_executor_backend == "ray"


def model_path(spec: Deployment, root: PurePath) -> str:
    """The engine, as every node finds it under the checkout's root."""
    return f"{root}/{engines_root(Path(), spec.name)}/current"


def engine(spec: Deployment, cluster: Cluster, model: str, at: Place) -> Program:
    """The engine's own program on one node.

    Args:
        model: the engine's folder.
    """
    return _PROGRAMS[spec.engine.runtime](spec, cluster, PurePosixPath(model), at)


def _sglang(spec: Deployment, cluster: Cluster, model: PurePath, at: Place) -> Program:
    told = sglang.told(model, spec) | _door(spec)
    if "nnodes" in told:
        told |= _instead(told, node_rank=at.rank, dist_init_addr=_join(at.head, cluster.port))
    return Program(("python3", "-m", "sglang.launch_server"), _options(told))


def _vllm(spec: Deployment, cluster: Cluster, model: PurePath, at: Place) -> Program:
    if uses_ray(spec):
        return Program(("ray", "start"), _ray(cluster, at))
    told = vllm.told(model, spec)
    path, why = told.pop("model")
    if "nnodes" in told:
        told |= _instead(told, node_rank=at.rank, master_addr=at.head)
    told |= _door(spec) if at.rank == "0" else {"headless": (True, "this node answers no requests: the head does")}
    return Program(("vllm", "serve"), (Option((path,), why), *_options(told)))


# Of runtimes whose every node runs the engine's program; by MPI there is one for all of them.
_PROGRAMS: dict[Runtime, Callable[[Deployment, Cluster, PurePath, Place], Program]] = {
    "sglang": _sglang,
    "vllm": _vllm,
}


def _door(spec: Deployment) -> Told:
    why = (
        "where the engine's own HTTP server listens: on the head where it runs alone, elsewhere its health (ports.host)"
    )
    return {"host": (spec.ports.host, why), "port": (spec.ports.http, "and its port (ports.http)")}


def _instead(told: Told, **values: Any) -> Told:
    """Other values for the same reasons."""
    return {name: (value, told[name][1]) for name, value in values.items()}


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


def _options(told: Told) -> tuple[Option, ...]:
    """Arguments of an engine's Python interface as its command line has them."""
    return tuple(
        Option(words, why)
        for name, (value, why) in told.items()
        if _DEFAULTS.get(name) != value and (words := _words(name, value))
    )


def _words(name: str, value: Any) -> tuple[str, ...]:
    flag = name.replace("_", "-")
    if value is True:
        return (f"--{flag}",)
    if value is False:  # of those that are on by default
        return (f"--no-{flag}",) if _DEFAULTS.get(name) is True else ()
    if name == "lora_paths":
        return (f"--{flag}", *(f"{key}={each}" for key, each in value.items()))
    if isinstance(value, dict):
        value = json.dumps(value)
    return () if value is None else (f"--{flag}", str(value))


def _join(host: str, port: int) -> str:
    """``host:port``; a variable that stands for a host has no colons of its own."""
    return f"{host}:{port}" if host.startswith("$") else address(host, port)
