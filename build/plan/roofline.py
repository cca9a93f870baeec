"""How fast it could be, by a roofline: a step takes as long as the slower of reading and multiplying. No measurement.

What the shares below leave of the peaks is what kernels and schedulers cost. They were chosen to meet one measurement,
of Llama 3.1 8B in vLLM 0.26.0 on an H100, and what experts add one of Qwen3-30B-A3B on an H200 (docs/planning.md).
"""

from dataclasses import dataclass
from functools import cached_property

from build.plan.layout import Layout, Load
from build.plan.machines import Machines
from build.plan.memory import Demand, request_bytes
from build.plan.traffic import Traffic, seconds, traffic_of
from build.plan.weights import Cache, Part

READ_SHARE = 0.8  # of the memory's peak bandwidth
COMPUTE_SHARE = 0.6  # of the peak FLOPS
LAYER_S = 30e-6  # a layer's own time, however little it has to do
EXPERTS_S = 24e-6  # and of one with experts: choosing them, and sorting tokens by them


@dataclass(frozen=True)
class Speed:
    """One copy of the model at one batch."""

    batch: int
    ttft_s: float  # of one prompt that meets no other
    token_s: float  # between two tokens of a stream
    tokens_per_s: float  # of all streams

    @property
    def per_stream(self) -> float:
        """Tokens a second that one user sees."""
        return 1 / self.token_s


@dataclass(frozen=True)
class Roofline:
    """One copy of a model on its GPUs."""

    load: Load
    layout: Layout
    machines: Machines
    demand: Demand
    nic_gbps: float

    def speed(self, batch: int) -> Speed:
        """At a batch of requests that are on average half way through their answers.

        Each pipeline stage works on another part of the batch, and every part passes all stages.
        """
        part = -(-batch // self.layout.pipeline)
        token = sum(self._decode(stage, part) for stage in self._stages)
        return Speed(batch, self._prefill(), token, batch / token)

    def _decode(self, stage: range, batch: int) -> float:
        """Seconds of a stage for one token of each request."""
        length = (self.demand.prompt + self.demand.length) // 2
        mine = -(-batch // self.layout.tensor) if self.layout.attention_dp else batch  # whose cache a GPU has
        cache = mine * request_bytes(self.load, self.demand, self.layout, stage, length)
        attention = batch * sum(each.flops * each.tokens(length) for each in self._caches(stage))
        reading = self._reading(self._weights_read(stage, batch) + cache)
        return max(reading, self._multiplying(stage, batch, attention)) + self._waiting(stage, mine)

    def _prefill(self) -> float:
        """Seconds of a prompt, in pieces of a step each, through one stage after the other."""
        prompt, step = self.demand.prompt, self.demand.step_tokens
        total = 0.0
        for done in range(0, prompt, step):
            piece = min(step, prompt - done)
            for stage in self._stages:
                caches = self._caches(stage)
                attention = piece * sum(each.prompt_flops * each.tokens(done + piece // 2) for each in caches)
                multiplying = self._multiplying(stage, piece, attention, alone=self.layout.attention_dp)
                reading = self._reading(self._weights_read(stage, piece))
                total += max(reading, multiplying) + self._waiting(stage, piece)
        return total

    @cached_property
    def _stages(self) -> list[range]:
        return self.load.stages(self.layout)

    @cached_property
    def _traffic(self) -> Traffic:
        return traffic_of(self.load, self.layout, self.machines)

    def _caches(self, stage: range) -> tuple[Cache, ...]:
        return self.load.shapes.caches[stage.start : stage.stop]

    def _weights_read(self, stage: range, tokens: int) -> float:
        """Bytes of weights that a step reads on each GPU: of the experts those that some token chose."""
        shapes = self.load.shapes
        parts = self.load.on_gpu(self.layout, stage)
        read = sum(parts.values())
        if not (shapes.tied and stage.stop == shapes.layers):
            read -= parts[Part.EMBEDDING]  # a row a token
        if shapes.experts:
            read -= parts[Part.EXPERTS] * (1 - shapes.experts.chosen / shapes.experts.count) ** tokens
        return read

    def _reading(self, size: float) -> float:
        return size / (self.machines.gpu.bandwidth * 1e9 * READ_SHARE)

    def _multiplying(self, stage: range, tokens: int, attention: float, *, alone: bool = False) -> float:
        """Seconds on each GPU; attention itself multiplies in 16 bits.

        Args:
            attention: FLOPs over what is cached.
            alone: one request, whose attention no other GPU of the group helps with.
        """
        shapes, gpu = self.load.shapes, self.machines.gpu
        helping = 1 if alone else self.layout.tensor
        own = self.load.attention
        met = (self.load.active - own) / self.layout.tensor + own / helping
        matrices = 2 * tokens * met * len(stage) / shapes.layers
        return (matrices / self._tflops + attention / helping / gpu.bf16) / (COMPUTE_SHARE * 1e12)

    @cached_property
    def _tflops(self) -> float:
        """Of the weights' matrices; where only the weights are small, they are multiplied in 16 bits."""
        gpu = self.machines.gpu
        if self.load.scheme.dtype == "F32":
            return gpu.bf16 / 2  # as TF32
        return {"bf16": gpu.bf16, "int8": gpu.int8, "fp8": gpu.fp8, "fp4": gpu.fp4}[self.load.scheme.compute]

    def _waiting(self, stage: range, tokens: float) -> float:
        """Seconds that no reading or multiplying hides."""
        shapes = self.load.shapes
        mixed = shapes.experts.layers / shapes.layers if shapes.experts else 0.0
        own = len(stage) * (LAYER_S + mixed * EXPERTS_S)
        return seconds(self._traffic, tokens, self.machines, self.nic_gbps) + own
