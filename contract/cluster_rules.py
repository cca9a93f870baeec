"""What does not fit among the machines of a cluster."""

from collections.abc import Iterator

from contract.cluster import Cluster
from contract.engines.kinds import KINDS
from contract.sections import Sections

_LOOPBACK = ("localhost", "127.", "::1")
_ANY = ("0.0.0.0", "::")


def faults(spec: Sections) -> Iterator[str]:
    """What contradicts itself, each with its key and the way out."""
    if spec.cluster:
        yield from _of_the_nodes(spec.cluster)
        yield from _of_the_engine(spec, spec.cluster)
    elif spec.engine.vllm.distributed_executor_backend == "ray":
        yield "engine.vllm.distributed_executor_backend: ray is of a cluster, and there is none. Leave it out"


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


def _of_the_engine(spec: Sections, cluster: Cluster) -> Iterator[str]:
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
