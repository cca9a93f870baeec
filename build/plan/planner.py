"""Model and machines → the plan: every layout judged, or a refusal that says what would fit."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from build.plan.architectures import shapes_of
from build.plan.asked import Asked
from build.plan.config import Config
from build.plan.layout import Layout, Load, candidates
from build.plan.machines import GIB, Machines
from build.plan.memory import GRAPHS, Demand, Memory, largest_batch, memory_of
from build.plan.quantization import Scheme, named, own
from build.plan.roofline import Roofline, Speed
from build.plan.traffic import Traffic, traffic_of
from contract.errors import BuildError
from contract.gpus import GPUS

LENGTHS = (2048, 8192, 32768, 131072)
NIC_GBPS = 400.0  # of each GPU's network adapter, as in the vendor's eight-GPU machines since Hopper


@dataclass(frozen=True)
class Option:
    """One layout, judged."""

    layout: Layout
    faults: tuple[str, ...]  # why it cannot be; nothing else is known of it then
    memory: Memory | None = None
    batch: int = 0  # largest of the demanded length, over all copies
    copies: int = 0
    traffic: Traffic | None = None
    speed: Speed | None = None  # of one copy at its largest batch

    @property
    def fits(self) -> bool:
        """Whether it serves one request at least."""
        return self.batch > 0

    @property
    def tokens_per_s(self) -> float:
        """Of all copies, by estimate."""
        return self.speed.tokens_per_s * self.copies if self.speed else 0.0


@dataclass(frozen=True)
class Plan:
    """What the table and the JSON show."""

    config: Config
    load: Load
    machines: Machines
    demand: Demand
    nic_gbps: float
    fitting: tuple[Option, ...]  # the best first
    rest: tuple[Option, ...]
    alone: Speed  # one request
    notes: tuple[str, ...]

    @property
    def best(self) -> Option:
        """What is shown in full."""
        return self.fitting[0]

    def batches(self) -> dict[int, int]:
        """Length → the largest batch over all copies, for the lengths that the model has."""
        shapes = self.load.shapes
        lengths = {length for length in LENGTHS if length < shapes.context} | {self.demand.length, shapes.context}
        return {
            length: largest_batch(self.load, self.best.layout, self.machines, self.demand, length) * self.best.copies
            for length in sorted(lengths)
        }


def make_plan(asked: Asked, nic_gbps: float = NIC_GBPS) -> Plan:
    """The plan of a model on machines.

    Raises:
        BuildError: the model is not known, or nothing of it fits.
    """
    config, machines, demand = asked.config, asked.machines, asked.demand
    shapes = shapes_of(config)
    scheme, notes = _scheme(config, machines, asked.precision)
    load = Load(shapes, scheme)
    _check_demand(load, machines, demand)
    options = judge(load, machines, demand, asked.layout, nic_gbps)
    fitting = sorted((option for option in options if option.fits), key=lambda option: _order(option, machines))
    if not fitting:
        raise _refusal(config, load, machines, demand, options)
    if load.mtp_bytes:
        notes.append(
            f"The checkpoint has {load.mtp_bytes / 1e9:.1f} GB more: the MTP module, which servers load only to "
            "speculate with it. It is not in this plan"
        )
    rest = tuple(option for option in options if not option.fits)
    alone = Roofline(load, fitting[0].layout, machines, demand, nic_gbps).speed(1)
    return Plan(config, load, machines, demand, nic_gbps, tuple(fitting), rest, alone, tuple(notes))


def judge(
    load: Load, machines: Machines, demand: Demand, layout: Layout | None = None, nic_gbps: float = NIC_GBPS
) -> list[Option]:
    """Every layout of the machines, or one."""
    layouts = [layout] if layout else candidates(load.shapes, machines.gpus)
    return [_judge(load, machines, demand, each, nic_gbps) for each in layouts]


def _judge(load: Load, machines: Machines, demand: Demand, layout: Layout, nic_gbps: float) -> Option:
    faults = tuple(load.faults(layout))
    if layout.gpus > machines.gpus:
        faults = (f"{layout.gpus} GPUs are more than {machines.gpus}", *faults)
    if faults:
        return Option(layout, faults)
    memory = memory_of(load, layout, machines, demand)
    copies = machines.gpus // layout.gpus
    each = memory.cached_requests * (layout.tensor if layout.attention_dp else 1)
    traffic = traffic_of(load, layout, machines)
    batch = min(each, demand.batch)
    speed = Roofline(load, layout, machines, demand, nic_gbps).speed(batch) if batch else None
    return Option(layout, (), memory, each * copies, copies, traffic, speed)


def _order(option: Option, machines: Machines) -> tuple[bool, bool, bool, int, int, int]:
    """Tensor parallelism inside a machine, pipeline stages only from one to the next, attention by data for who asks
    for it; then the most tokens a second by estimate, where a twentieth is no difference and the simpler one wins."""
    layout = option.layout
    spanned = -(-layout.gpus // machines.per_node)
    rate = option.tokens_per_s
    return (
        layout.tensor > machines.per_node,
        layout.attention_dp,
        layout.pipeline > spanned,
        -round(20 * math.log(rate)) if rate else 0,
        layout.gpus,
        layout.expert,
    )


def _scheme(config: Config, machines: Machines, precision: str) -> tuple[Scheme, list[str]]:
    """The precision that is served, and what is to be said of it."""
    found = own(config) if not precision else named(precision, config.dtype)
    gpu, name = machines.gpu, machines.name
    has = {"fp8": gpu.fp8, "fp4": gpu.fp4}.get(found.compute, 1)
    if has:
        return found, []
    kind = found.compute.upper()
    if not precision and found.name.startswith("fp8"):
        cast = named("bf16", config.dtype)
        return cast, [
            f"{name} is sm{gpu.sm} and has no FP8, which begins with sm89 (Ada, Hopper): the FP8 checkpoint "
            "must be cast to BF16 first, which doubles its weights. This plan is for BF16; INT8 or AWQ need less"
        ]
    raise BuildError(
        f"{name} is sm{gpu.sm} and has no {kind}, which {found.name} multiplies in",
        fix=f"Use PRECISION=bf16 or int4_awq, or {', '.join(_with(found.compute))}",
    )


def _with(compute: str) -> list[str]:
    """GPUs that have FP8, or FP4."""
    return [name for name, gpu in GPUS.items() if (gpu.fp8 if compute == "fp8" else gpu.fp4)]


def _check_demand(load: Load, machines: Machines, demand: Demand) -> None:
    if demand.length > load.shapes.context:
        raise BuildError(
            f"a length of {demand.length} tokens is beyond the model's context of {load.shapes.context}",
            fix="Lower it, or use a checkpoint whose config.json scales its positions",
        )
    if not 0 < demand.prompt < demand.length:
        raise BuildError(
            f"a prompt of {demand.prompt} tokens leaves no answer in a length of {demand.length}", fix="Lower it"
        )
    needs = {"fp8": machines.gpu.fp8, "nvfp4": machines.gpu.fp4}.get(demand.cache, 1)
    if not needs:
        raise BuildError(
            f"{machines.name} is sm{machines.gpu.sm} and has no {demand.cache} for its cache",
            fix=f"Use auto, or {', '.join(_with('fp8' if demand.cache == 'fp8' else 'fp4'))}",
        )


def _refusal(config: Config, load: Load, machines: Machines, demand: Demand, options: list[Option]) -> BuildError:
    """What is missing where it is nearest to fitting, and what would fit."""
    judged = [(option, option.memory) for option in options if option.memory]
    if not judged:
        reasons = "; ".join(f"{option.layout}: {option.faults[0]}" for option in options[:3])
        ways_out = _ways_out(config, load, machines, demand, None)
        return BuildError(f"{config.name} cannot be divided over {machines}: {reasons}", fix=ways_out)
    nearest, memory = max(judged, key=lambda pair: pair[1].room - pair[1].per_request)
    return BuildError(
        f"{config.name} in {load.scheme.name} does not fit {machines}: {nearest.layout} has {memory.weight / GIB:.1f} "
        f"GiB of weights, {(memory.activations + GRAPHS) / GIB:.1f} GiB of activations and graphs and "
        f"{memory.per_request / GIB:.1f} GiB of cache for one request of {demand.length} tokens on a GPU, of which "
        f"{memory.usable / GIB:.1f} GiB are usable: {(memory.per_request - memory.room) / GIB:.1f} GiB too much",
        fix=_ways_out(config, load, machines, demand, memory),
    )


def _ways_out(config: Config, load: Load, machines: Machines, demand: Demand, nearest: Memory | None) -> str:
    """What would fit: another layout, a shorter request, more of the same GPUs, other GPUs, fewer bytes."""
    if others := [option for option in judge(load, machines, demand) if option.fits]:
        return f"{min(others, key=lambda option: _order(option, machines)).layout} fits these GPUs"
    out = []
    if nearest and nearest.room > nearest.per_token:
        out.append(f"a request of at most {int(nearest.room // nearest.per_token)} tokens")
    found = [next(_fitting(load, _more(machines), demand), None)]
    found += list(_fitting(load, _others(load, machines), demand))[:2]
    out += [f"GPUS={each}" for each in found if each]
    for precision in ("fp8", "int4_awq"):
        fewer = Load(load.shapes, named(precision, config.dtype))
        has = precision != "fp8" or machines.gpu.fp8
        if fewer.total < load.total and has and any(_layouts_that_fit(fewer, machines, demand)):
            out.append(f"PRECISION={precision} on these GPUs ({fewer.total / 1e9:.0f} GB of weights)")
    return f"What would fit: {', or '.join(out)}" if out else "Nothing that is known here would fit"


def _layouts_that_fit(load: Load, machines: Machines, demand: Demand) -> Iterator[Layout]:
    for layout in candidates(load.shapes, machines.gpus):
        if load.total / layout.gpus > machines.memory or any(load.faults(layout)):
            continue
        if memory_of(load, layout, machines, demand).cached_requests:
            yield layout


def _fitting(load: Load, machines: Iterator[Machines], demand: Demand) -> Iterator[Machines]:
    return (each for each in machines if any(_layouts_that_fit(load, each, demand)))


def _more(machines: Machines) -> Iterator[Machines]:
    """The same GPUs: more in the machine up to eight, then more machines."""
    for each in (2, 4, 8):
        if each > machines.per_node and machines.nodes == 1:
            yield replace(machines, per_node=each)
    for nodes in (2, 3, 4, 6, 8, 16):
        if nodes > machines.nodes:
            yield Machines(machines.name, max(8, machines.per_node), nodes)


def _others(load: Load, machines: Machines) -> Iterator[Machines]:
    """As many GPUs of other kinds that have what the precision multiplies in, the smallest first."""
    for name, gpu in sorted(GPUS.items(), key=lambda pair: pair[1].memory_gib):
        able = {"fp8": gpu.fp8, "fp4": gpu.fp4}.get(load.scheme.compute, 1)
        if name != machines.name and able and gpu.nvlink >= machines.gpu.nvlink:
            yield replace(machines, name=name)
