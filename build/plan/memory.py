"""What a GPU's memory holds: weights, the activations of a step, and the cache, which decides how many requests."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from build.plan.layout import Layout, Load
from build.plan.machines import GIB, Machines
from build.plan.quantization import BYTES
from build.plan.weights import Part, Shapes
from contract.gpus import USABLE

GRAPHS = 1 * GIB  # what CUDA graphs and the workspaces of kernels take
# Of one number; auto: as the activations. int8 and int4 have no scales here, which an engine stores by head and token.
CACHE_BYTES = {"auto": 0.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5, "nvfp4": 0.5625}


@dataclass(frozen=True)
class Demand:
    """What is asked of a deployment."""

    length: int  # tokens of a request, prompt and answer
    prompt: int
    batch: int  # requests at once, at most
    step_tokens: int  # tokens in one engine step
    cache: str = "auto"  # the precision of the KV cache
    usable: float = USABLE  # of a GPU's memory


@dataclass(frozen=True)
class Memory:
    """One GPU of the fullest pipeline stage, in bytes."""

    usable: float
    weights: Mapping[Part, float]
    activations: float
    per_token: float  # of cache, for a token that every layer keeps
    per_request: float  # of cache, for one request of the demanded length
    cached_requests: int  # of that length that one GPU has room for

    @property
    def weight(self) -> float:
        """Of all parts."""
        return sum(self.weights.values())

    @property
    def room(self) -> float:
        """What is left for the cache; below 0 it does not fit."""
        return self.usable - self.weight - self.activations - GRAPHS


def width_of(load: Load) -> int:
    """Bytes of an activation."""
    return BYTES[load.scheme.dtype]


def cache_width(load: Load, demand: Demand) -> float:
    """Bytes of a number in the cache."""
    return CACHE_BYTES[demand.cache] or width_of(load)


def token_bytes(load: Load, demand: Demand) -> float:
    """Bytes of cache that one token takes in the whole model, each number once."""
    return sum(cache.numbers(1) for cache in load.shapes.caches) * cache_width(load, demand)


def request_bytes(load: Load, demand: Demand, layout: Layout, stage: range, length: int) -> float:
    """Bytes of cache that a request takes on each GPU of a stage; a sliding window keeps no more than it is wide."""
    caches = load.shapes.caches[stage.start : stage.stop]
    numbers = sum(cache.numbers(layout.heads) * cache.tokens(length) for cache in caches)
    return numbers * cache_width(load, demand)


def memory_of(load: Load, layout: Layout, machines: Machines, demand: Demand) -> Memory:
    """The GPU with the least room; the requests are as many as every stage has cache for."""
    stages = [_of_stage(load, layout, machines, demand, stage) for stage in load.stages(layout)]
    fullest = min(stages, key=lambda memory: memory.room)
    return replace(fullest, cached_requests=min(memory.cached_requests for memory in stages))


def _of_stage(load: Load, layout: Layout, machines: Machines, demand: Demand, stage: range) -> Memory:
    width = cache_width(load, demand)
    last = stage.stop == load.shapes.layers
    memory = Memory(
        usable=machines.memory * demand.usable,
        weights=load.on_gpu(layout, stage),
        activations=activations(load.shapes, layout, demand, width_of(load), last=last),
        per_token=width * sum(cache.numbers(layout.heads) for cache in load.shapes.caches[stage.start : stage.stop]),
        per_request=request_bytes(load, demand, layout, stage, demand.length),
        cached_requests=0,
    )
    return replace(memory, cached_requests=max(0, int(memory.room // memory.per_request)))


def largest_batch(load: Load, layout: Layout, machines: Machines, demand: Demand, length: int) -> int:
    """Requests of a length that one copy of the model has cache for, whatever the demanded batch."""
    each = memory_of(load, layout, machines, replace(demand, length=length)).cached_requests
    return each * (layout.tensor if layout.attention_dp else 1)


def activations(shapes: Shapes, layout: Layout, demand: Demand, width: int, *, last: bool) -> float:
    """Bytes that the widest moment of a step needs: two residual streams, one block at work, the logits.

    An estimate: kernels differ in what they keep. Experts are taken to be chosen evenly.
    """
    attention = shapes.head_widths / layout.heads + shapes.hidden
    mlp = 3 * shapes.mlp / layout.tensor + shapes.hidden
    experts = 0.0
    if shapes.experts:
        meeting = layout.tensor if layout.attention_dp else 1  # everyone's tokens meet at the experts
        inside = shapes.hidden / layout.expert + 3 * shapes.experts.width / layout.tensor
        experts = meeting * shapes.experts.chosen * inside
    hidden = demand.step_tokens * (2 * shapes.hidden + max(attention, mlp, experts)) * width
    logits = 2 * demand.batch * shapes.vocab * BYTES["F32"] if last else 0
    return hidden + logits
