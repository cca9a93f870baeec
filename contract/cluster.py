"""``cluster`` of a deployment spec: the machines that one engine is spread over, and what does not fit among them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from contract.engines.kinds import KINDS
from contract.fabric import Fabric
from contract.frozen import Frozen

if TYPE_CHECKING:
    from contract.spec import Deployment

_LOOPBACK = ("localhost", "127.", "::1")
_ANY = ("0.0.0.0", "::")


class Node(Frozen):
    """One machine."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,62}$")  # its host name, which is also Slurm's
    address: str = Field(pattern=r"^[A-Za-z0-9:][A-Za-z0-9.:-]*$")  # where the others reach it


class Cluster(Frozen):
    """Machines that are alike, with the checkout and its engine at the same path."""

    nodes: tuple[Node, ...] = Field(min_length=1)  # the head first: Triton and the gateway run there
    gpus_per_node: int = Field(default=8, ge=1)
    port: Annotated[int, Field(ge=1, le=65535)] = 5000  # of the head, where the nodes find each other
    fabric: Fabric | None = None  # as make doctor finds it; none: NCCL and Gloo search for themselves

    @property
    def head(self) -> Node:
        """Where rank 0 runs."""
        return self.nodes[0]


def faults(spec: "Deployment") -> list[str]:
    """What contradicts itself, each with its key and the way out."""
    if spec.cluster is None:
        if spec.engine.vllm.distributed_executor_backend == "ray":
            return ["engine.vllm.distributed_executor_backend: ray is of a cluster, and there is none. Leave it out"]
        return []
    return [*_of_the_nodes(spec.cluster), *_of_the_engine(spec, spec.cluster)]


def _of_the_nodes(cluster: Cluster) -> Iterator[str]:
    for key in ("name", "address"):
        seen: dict[str, int] = {}
        for number, node in enumerate(cluster.nodes):
            value = getattr(node, key)
            if value in seen:
                yield f"cluster.nodes.{number}.{key}: {value} is nodes.{seen[value]}'s already. Name each machine once"
            seen.setdefault(value, number)
    local = [node.address.startswith(_LOOPBACK) for node in cluster.nodes]
    for number, node in enumerate(cluster.nodes):
        if node.address in _ANY or (local[number] and not all(local)):
            yield f"cluster.nodes.{number}.address: {node.address} is no address for other machines. Give the network's"


def _of_the_engine(spec: "Deployment", cluster: Cluster) -> Iterator[str]:
    engine, many = spec.engine, len(cluster.nodes)
    if not engine.kind.several_nodes:
        others = ", ".join(name for name in reversed(KINDS) if KINDS[name].several_nodes)
        yield f"engine.runtime: {engine.runtime} takes no cluster. Use {others}, or leave the cluster out"
        return
    have, parallel = many * cluster.gpus_per_node, engine.parallel
    if have != parallel.gpus:
        yield (
            f"cluster.nodes: {many} × {cluster.gpus_per_node} GPUs (gpus_per_node) are {have}, and engine.parallel "
            f"takes {parallel.gpus} (tensor {parallel.tensor} × pipeline {parallel.pipeline}). Make them the same"
        )
    if engine.runtime == "sglang" and many % parallel.pipeline and parallel.pipeline % many:
        yield (
            f"engine.parallel.pipeline: {parallel.pipeline} stages over {many} nodes. SGLang places whole stages on a "
            "node, or whole nodes in a stage: one number must divide the other"
        )
    if engine.runtime == "trtllm" and engine.trtllm.gpus_per_node != cluster.gpus_per_node:
        yield (
            f"cluster.gpus_per_node: is {cluster.gpus_per_node}, and engine.trtllm.gpus_per_node is "
            f"{engine.trtllm.gpus_per_node}. Make them the same"
        )
    for name in ("http", "grpc", "metrics", "gateway"):
        if getattr(spec.ports, name) == cluster.port:
            yield f"cluster.port: {cluster.port} is ports.{name} already, and the head has both. Choose another"
    if many > 1 and spec.verify.reference != "none":
        yield "verify.reference: a model of several machines is not verified on one of them. Set it to none"
