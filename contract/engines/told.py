"""What an engine is told: each argument with the reason that is written beside it on a node's command line."""

from typing import Any

from contract.spec import Deployment

Told = dict[str, tuple[Any, str]]


def values(told: Told) -> dict[str, Any]:
    """The arguments as the engine's Python interface takes them."""
    return {name: value for name, (value, _) in told.items()}


def shared_layers(spec: Deployment) -> str:
    """Why there are so many tensor-parallel GPUs."""
    parallel, cluster = spec.engine.parallel, spec.cluster
    nodes, gpus = (len(cluster.nodes), cluster.gpus_per_node) if cluster else (1, parallel.gpus)
    staged = f" in {parallel.pipeline} stages" if parallel.pipeline > 1 else ""
    return f"{parallel.tensor} GPUs share every layer: {nodes} nodes × {gpus} GPUs{staged} (engine.parallel.tensor)"


def stages(spec: Deployment) -> str:
    """Why there are so many pipeline stages."""
    return f"the layers are {spec.engine.parallel.pipeline} stages, one behind the other (engine.parallel.pipeline)"


MODEL = "the engine that make engine published, at the same path on every node"
DTYPE = "of weights and activations (engine.precision)"
BATCH = "in the batch at once (limits.max_batch_size), and one for the supervisor's canary"
NODES = "how many nodes there are (cluster.nodes)"
RANK = "which of them this is; 0 is the head, which runs Triton"
