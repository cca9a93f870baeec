"""What engines do between their ranks: each collective once for its result, then repeated for its bandwidth.

Values are small whole numbers, so that every sum is exact in float32 however the backend orders it. Bandwidth is the
bus bandwidth of NVIDIA's nccl-tests, which can be compared with what a link carries whatever the number of ranks.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist

from deploy.doctor.comm.measured import Measured
from deploy.doctor.comm.pulse import Pulse

_PATTERN = 97  # a prime: no rank's data looks like another's, shifted
_WARM_UP = 2
_BYTES = 4  # of a float32
# The same under its name since torch 2.13; vLLM's and NVIDIA's images have older ones.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


@dataclass(frozen=True)
class World:
    """The ranks, and how they are tested."""

    rank: int
    ranks: int
    device: torch.device
    mib: int
    rounds: int
    pulse: Pulse

    @property
    def elements(self) -> int:
        """Of a message, divisible by the number of ranks."""
        return self.mib * 2**20 // _BYTES // self.ranks * self.ranks

    def data(self, rank: int, elements: int = 0) -> torch.Tensor:
        """What a rank contributes."""
        size = elements or self.elements
        return (torch.arange(size, device=self.device) % _PATTERN * (rank + 1)).to(torch.float32)

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def barrier(self) -> None:
        """Until every rank is here."""
        dist.all_reduce(torch.zeros(1, device=self.device))
        self.wait()


def all_reduce(world: World) -> Measured:
    """The sum of all ranks' data on every rank: after each layer of tensor parallelism."""
    found = world.data(world.rank)
    dist.all_reduce(found)
    ranks = world.ranks
    wrong = differs(found, world.data(0) * (ranks * (ranks + 1) // 2))
    zeros = torch.zeros_like(found)
    seconds = _time(world, lambda: dist.all_reduce(zeros))
    return Measured("all-reduce", wrong, seconds, _gbps(world, seconds, 2 * (ranks - 1) / ranks))


def all_gather(world: World) -> Measured:
    """Every rank's part on every rank: logits, and experts' tokens."""
    part = world.elements // world.ranks
    mine = world.data(world.rank, part)
    found = torch.empty(part * world.ranks, device=world.device)
    _all_gather(found, mine)
    wrong = differs(found, torch.cat([world.data(rank, part) for rank in range(world.ranks)]))
    seconds = _time(world, lambda: _all_gather(found, mine))
    return Measured("all-gather", wrong, seconds, _gbps(world, seconds, (world.ranks - 1) / world.ranks))


def broadcast(world: World) -> Measured:
    """One rank's data on every rank, from the first and from the last: requests, weights."""
    wrong = ""
    for root in {0, world.ranks - 1}:
        found = world.data(root) if world.rank == root else torch.zeros(world.elements, device=world.device)
        dist.broadcast(found, src=root)
        wrong = wrong or differs(found, world.data(root))
    seconds = _time(world, lambda: dist.broadcast(found, src=0))
    return Measured("broadcast", wrong, seconds, _gbps(world, seconds, 1 if world.ranks > 1 else 0))


def point_to_point(world: World) -> Measured:
    """From each rank to the next, all at once: between the stages of pipeline parallelism."""
    if world.ranks == 1:
        return Measured("point-to-point", skipped="one rank has no other to send to")
    after, before = (world.rank + 1) % world.ranks, (world.rank - 1) % world.ranks
    mine, found = world.data(world.rank), torch.empty(world.elements, device=world.device)

    def exchange() -> None:
        both = [dist.P2POp(dist.isend, mine, after), dist.P2POp(dist.irecv, found, before)]
        for work in dist.batch_isend_irecv(both):
            work.wait()

    exchange()
    world.wait()
    wrong = differs(found, world.data(before))
    seconds = _time(world, exchange)
    return Measured("point-to-point", wrong, seconds, _gbps(world, seconds, 1))


COLLECTIVES: tuple[tuple[str, Callable[[World], Measured]], ...] = (
    ("all-reduce", all_reduce),
    ("all-gather", all_gather),
    ("broadcast", broadcast),
    ("point-to-point", point_to_point),
)


def differs(found: torch.Tensor, expected: torch.Tensor) -> str:
    """Where two tensors differ, in words; '' where they do not."""
    bad = (found != expected).nonzero().flatten()
    if not bad.numel():
        return ""
    first = int(bad[0])
    return (
        f"{bad.numel()} of {expected.numel()} values are wrong, the first at {first}: "
        f"{found[first].item():g} instead of {expected[first].item():g}"
    )


def _time(world: World, once: Callable[[], object]) -> float:
    for _ in range(_WARM_UP):
        once()
    world.wait()
    world.barrier()
    began = time.perf_counter()
    for _ in range(world.rounds):
        once()
    world.wait()
    return (time.perf_counter() - began) / world.rounds


def _gbps(world: World, seconds: float, share: float) -> float:
    return world.elements * _BYTES * 8 * share / seconds / 1e9
