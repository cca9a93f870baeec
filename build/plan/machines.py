"""``GPUS=h200x8x2``: which GPU, how many a machine, how many machines."""

import difflib
import re
from dataclasses import dataclass

from contract.errors import BuildError
from contract.gpus import GPUS, Gpu

GIB = 2**30
# The x of a name, as in rtx-4090, has a hyphen after it.
_FORM = re.compile(
    r"(?P<name>[a-z](?:[a-wyz0-9-]|x(?=-))*)(x(?P<each>0*[1-9][0-9]{0,2}))?(x(?P<nodes>0*[1-9][0-9]{0,3}))?"
)
_ALSO = {"a100-80gb": "a100", "a100-80g": "a100", "a100-40g": "a100-40gb", "h100-80gb": "h100", "h200-141gb": "h200"}


@dataclass(frozen=True)
class Machines:
    """Equal machines with equal GPUs."""

    name: str  # of the GPU, as contract.gpus has it
    per_node: int
    nodes: int

    @property
    def gpu(self) -> Gpu:
        """What one of its GPUs is."""
        return GPUS[self.name]

    @property
    def gpus(self) -> int:
        """GPUs in all."""
        return self.per_node * self.nodes

    @property
    def memory(self) -> int:
        """Bytes of one GPU."""
        return self.gpu.memory_gib * GIB

    def __str__(self) -> str:
        return f"{self.name}x{self.per_node}" + (f"x{self.nodes}" if self.nodes > 1 else "")


def parse_machines(text: str) -> Machines:
    """Machines as a user writes them: GPU, or GPU×COUNT, or GPU×COUNT×MACHINES, with an x.

    Raises:
        BuildError: no such form, or no such GPU.
    """
    found = _FORM.fullmatch(text.strip().lower())
    if found is None:
        raise BuildError(
            f"GPUS={text} is not of the form GPU, GPUxCOUNT or GPUxCOUNTxMACHINES",
            fix="Write h200x8x2 for two machines of eight H200",
        )
    name = _ALSO.get(found["name"], found["name"])
    if name not in GPUS:
        near = difflib.get_close_matches(name, GPUS, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise BuildError(f"GPUS={text}: no GPU {name} is known", fix=f"{hint}Known: {', '.join(GPUS)}")
    return Machines(name, int(found["each"] or 1), int(found["nodes"] or 1))
