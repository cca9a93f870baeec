"""How a model is spread over GPUs: which TP × PP × EP its shapes allow, and the bytes of weights each GPU then has."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from build.plan.quantization import Scheme, stored, takes
from build.plan.weights import Part, Shapes, Split


@dataclass(frozen=True)
class Layout:
    """One copy of a model on tensor × pipeline GPUs."""

    tensor: int = 1
    pipeline: int = 1
    expert: int = 1  # of the tensor-parallel GPUs, those that split a MoE layer by experts
    attention_dp: bool = False  # each GPU attends to requests of its own, with attention's weights whole

    @property
    def gpus(self) -> int:
        """Of one copy."""
        return self.tensor * self.pipeline

    @property
    def heads(self) -> int:
        """Over how many GPUs attention's heads are divided."""
        return 1 if self.attention_dp else self.tensor

    def __str__(self) -> str:
        text = f"TP {self.tensor}"
        text += f" × PP {self.pipeline}" if self.pipeline > 1 else ""
        text += f" × EP {self.expert}" if self.expert > 1 else ""
        return text + (", attention by data" if self.attention_dp else "")


class Load:
    """A model in a precision: its bytes, added up once for all layouts."""

    def __init__(self, shapes: Shapes, scheme: Scheme) -> None:
        self.shapes = shapes
        self.scheme = scheme
        self.mtp_bytes = 0
        # Part and split → bytes by layer; before the first and after the last are layers here too.
        self._bytes: dict[tuple[Part, Split], list[int]] = {}
        for weight in shapes.weights:
            size = sum(tensor.bytes for tensor in stored(weight, scheme))
            if weight.mtp:
                self.mtp_bytes += size
            else:
                layers = self._bytes.setdefault((weight.part, weight.split), [0] * (shapes.layers + 2))
                layers[weight.layer + 1] += size
        self._before = {key: [0, *accumulate(layers)] for key, layers in self._bytes.items()}

    @cached_property
    def total(self) -> int:
        """Bytes of the main model, once."""
        return sum(self.parts().values())

    @cached_property
    def active(self) -> int:
        """Parameters that a token meets."""
        return self.shapes.active()

    @cached_property
    def attention(self) -> int:
        """Parameters of attention's matrices."""
        return self.shapes.numbers_of(Part.ATTENTION)

    def parts(self) -> dict[Part, int]:
        """Bytes of the main model by part."""
        found: dict[Part, int] = {}
        for (part, _), layers in self._bytes.items():
            found[part] = found.get(part, 0) + sum(layers)
        return found

    def copied(self) -> int:
        """Bytes that tensor parallelism does not divide."""
        return sum(sum(layers) for (_, split), layers in self._bytes.items() if split is Split.COPY)

    @cached_property
    def _shards(self) -> frozenset[tuple[Part, Split, int, int]]:
        """Part, split, the width that is split and the size of a whole block, of quantized weights."""
        found = set()
        rows, columns = self.scheme.block
        for weight in self.shapes.weights:
            if weight.split is Split.COPY or not takes(weight, self.scheme) or self.scheme.tensors is None:
                continue
            inputs, outputs = (weight.shape[1], weight.shape[2]) if weight.fused else (weight.shape[1], weight.shape[0])
            across = (inputs, columns) if weight.split is Split.COLUMNS else (outputs, rows)
            found.add((weight.part, weight.split, *across))
        return frozenset(found)

    def faults(self, layout: Layout) -> Iterator[str]:
        """Why a layout cannot be, each reason in a few words."""
        shapes, tensor = self.shapes, layout.tensor
        if shapes.heads % layout.heads:
            yield f"TP {tensor} does not divide {shapes.heads} heads"
        kv = shapes.kv_heads
        if not shapes.caches[0].compressed and kv % layout.heads and layout.heads % kv:
            yield f"TP {tensor} neither divides {kv} key-value heads nor is a multiple of them"
        if layout.pipeline > shapes.layers:
            yield f"PP {layout.pipeline} is more than {shapes.layers} layers"
        if shapes.mlp % tensor:
            yield f"TP {tensor} does not divide an MLP {shapes.mlp} wide"
        yield from self._expert_faults(layout)
        yield from self._block_faults(layout)

    def _expert_faults(self, layout: Layout) -> Iterator[str]:
        experts = self.shapes.experts
        if layout.tensor % layout.expert:
            yield f"EP {layout.expert} does not divide TP {layout.tensor}"
        elif experts is None:
            if layout.expert > 1:
                yield "EP without experts"
        elif experts.count % layout.expert:
            yield f"EP {layout.expert} does not divide {experts.count} experts"
        elif experts.width % (layout.tensor // layout.expert):
            yield f"TP {layout.tensor // layout.expert} does not divide experts {experts.width} wide"

    def _block_faults(self, layout: Layout) -> Iterator[str]:
        ways_of = {
            Part.EXPERTS: layout.tensor // layout.expert,
            Part.ATTENTION: layout.heads,
            Part.SHARED: layout.heads,
        }
        for part, split, width, block in sorted(self._shards):
            ways = ways_of.get(part, layout.tensor)
            ways = min(ways, self.shapes.kv_heads) if split is Split.KV else ways
            if block > 1 and ways > 1 and width % ways == 0 and (width // ways) % block:
                yield (
                    f"{part} {width} wide over {ways} GPUs are {width // ways} each, no whole blocks of {block} "
                    f"({self.scheme.name})"
                )
                return

    def stages(self, layout: Layout) -> list[range]:
        """The layers of each pipeline stage; what does not divide goes to the stages before the last, as in vLLM."""
        each, left = divmod(self.shapes.layers, layout.pipeline)
        sizes = [each] * layout.pipeline
        for extra in range(left):
            sizes[-2 - extra] += 1
        return [range(end - size, end) for size, end in zip(sizes, accumulate(sizes), strict=True)]

    def on_gpu(self, layout: Layout, stage: range) -> dict[Part, float]:
        """Bytes of weights on each GPU of a stage, by part."""
        first, last = stage.start == 0, stage.stop == self.shapes.layers
        found = dict.fromkeys(Part, 0.0)
        for (part, split), before in self._before.items():
            size = before[stage.stop + 1 + last] - before[stage.start + 1 - first]
            if part is Part.EMBEDDING and self.shapes.tied and last and not first:
                size += before[-1]  # a tied embedding is the last stage's head too
            found[part] += size / self._ways(part, split, layout)
        return found

    def _ways(self, part: Part, split: Split, layout: Layout) -> int:
        """Over how many GPUs a weight is divided; with experts by EP it is as many as without."""
        if split is Split.COPY:
            return 1
        # Whoever attends for itself computes the shared experts for itself too.
        ways = layout.heads if part in (Part.ATTENTION, Part.SHARED) else layout.tensor
        return min(ways, self.shapes.kv_heads) if split is Split.KV else ways


def candidates(shapes: Shapes, gpus: int) -> Iterator[Layout]:
    """Layouts of up to that many GPUs whose copies fill them: with experts by tensor or by expert, and with MLA
    also attention by data, for its cache cannot be divided by heads."""
    for tensor in (each for each in range(1, gpus + 1) if gpus % each == 0):
        for pipeline in (each for each in range(1, gpus // tensor + 1) if (gpus // tensor) % each == 0):
            yield Layout(tensor, pipeline)
            if tensor > 1 and shapes.experts:
                yield Layout(tensor, pipeline, tensor)
                if shapes.caches[0].compressed:
                    yield Layout(tensor, pipeline, tensor, attention_dp=True)
