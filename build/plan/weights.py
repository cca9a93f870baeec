"""A model's weights as shapes: what its checkpoint holds, tensor by tensor, before any quantization."""

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property


class Part(StrEnum):
    """What a weight is of; memory and speed are told by these."""

    EMBEDDING = "embedding"
    ATTENTION = "attention"
    MLP = "mlp"
    EXPERTS = "experts"
    SHARED = "shared experts"
    ROUTER = "router"
    NORM = "norms"
    HEAD = "head"


class Split(StrEnum):
    """How tensor parallelism divides a weight."""

    ROWS = "rows"  # its outputs
    COLUMNS = "columns"  # its inputs
    KV = "kv"  # its outputs by key-value heads, which are copied where GPUs outnumber them
    COPY = "copy"  # every GPU has it whole


@dataclass(frozen=True)
class Weight:
    """One tensor of a checkpoint, or one of each expert."""

    name: str  # '*' stands for the number of the expert
    shape: tuple[int, ...]  # of a matrix: outputs, inputs
    part: Part
    layer: int  # -1 before the first layer, and the number of layers after the last
    split: Split = Split.COPY
    count: int = 1  # how many experts have one
    linear: bool = False  # a matrix that quantizations take
    fused: bool = False  # the matrices of all experts in one tensor, inputs before outputs
    dtype: str = ""  # safetensors' name of it where the model's own does not apply
    mtp: bool = False  # of the multi-token prediction module

    @property
    def numbers(self) -> int:
        """Parameters, of all experts."""
        return math.prod(self.shape) * self.count


@dataclass(frozen=True)
class Cache:
    """What one layer keeps of every token."""

    heads: int  # of keys and values; 1 for a compressed cache
    width: int  # numbers a head, keys and values together
    window: int = 0  # tokens kept at most; 0: all
    compressed: bool = False  # MLA: one vector for all heads, which tensor parallelism cannot divide
    flops: int = 0  # of one token's attention to one earlier token while decoding, all heads
    prompt_flops: int = 0  # the same while the prompt is read

    def numbers(self, tensor: int) -> int:
        """Numbers a token on one GPU of a tensor-parallel group."""
        return self.width if self.compressed else self.width * -(-self.heads // tensor)

    def tokens(self, length: int) -> int:
        """Tokens kept of a request of that length."""
        return min(length, self.window) if self.window else length


@dataclass(frozen=True)
class Experts:
    """The mixture of a model with experts."""

    count: int
    chosen: int  # of a token
    width: int  # of the hidden layer of one
    layers: int  # that have them


@dataclass(frozen=True)
class Shapes:
    """A model, without its numbers."""

    architecture: str
    hidden: int
    vocab: int
    layers: int
    heads: int
    head_widths: int  # queries, keys and values of a token in one layer, all heads: what attention works on
    mlp: int  # width of the widest dense MLP; 0 without one
    context: int
    caches: tuple[Cache, ...]
    weights: tuple[Weight, ...]
    tied: bool  # the head is the embedding
    experts: Experts | None = None

    @cached_property
    def kv_heads(self) -> int:
        """Heads of keys and values; 1 of a compressed cache."""
        return max(cache.heads for cache in self.caches)

    def parameters(self, *, mtp: bool = False) -> int:
        """Parameters of the main model, or of its MTP module."""
        return sum(weight.numbers for weight in self.weights if weight.mtp == mtp)

    def numbers_of(self, part: Part) -> int:
        """Parameters of a part of the main model."""
        return sum(weight.numbers for weight in self.weights if weight.part is part and not weight.mtp)

    def active(self) -> int:
        """Parameters that one token meets: those of its experts, and no embedding, whose row is looked up."""
        share = self.experts.chosen / self.experts.count if self.experts else 1.0
        return round(
            sum(
                weight.numbers * (share if weight.part is Part.EXPERTS else 1)
                for weight in self.weights
                if not weight.mtp and (weight.part is not Part.EMBEDDING or self.tied)
            )
        )
