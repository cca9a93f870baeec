"""A plan for people: what the model is, which layouts fit, the best of them in full, and what is only an estimate."""

from collections.abc import Iterator

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from build.plan.machines import GIB
from build.plan.memory import GRAPHS, cache_width, token_bytes
from build.plan.planner import Option, Plan
from build.plan.report import assumptions, speeds
from build.plan.weights import Part

_SHOWN = 12  # layouts; --json has all


def show(plan: Plan, console: Console) -> None:
    """Print a plan."""
    best = plan.best.layout
    console.print(_model(plan))
    for note in plan.notes:
        console.print(f"[yellow]![/yellow] {escape(note)}.")
    _section(console, f"Layouts that fit a request of {plan.demand.length} tokens", _layouts(plan), *_left_out(plan))
    _section(console, f"{best}: one GPU's memory", _memory(plan))
    _section(console, f"{best}: most requests at once in all copies, by their length in tokens", _batches(plan))
    _section(console, f"{best}: what one GPU sends", _links(plan))
    _section(console, f"{best}: an estimate by a roofline, not a measurement, of one copy", _estimate(plan))
    _section(console, "What this stands on", "", *(f"- {each}" for each in assumptions(plan)))


def _section(console: Console, title: str, body: Table | str, *lines: str) -> None:
    console.print(f"\n[bold]{title}[/bold]")
    if body:
        console.print(body)
    for line in lines:
        console.print(f"[dim]{escape(line)}[/dim]")


def _model(plan: Plan) -> Table:
    shapes, load, machines = plan.load.shapes, plan.load, plan.machines
    gpu = machines.gpu
    grid = Table.grid(padding=(0, 2))
    experts = shapes.experts
    mixture = f", {experts.chosen} of {experts.count} experts in {experts.layers}" if experts else ""
    grid.add_row("model", escape(plan.config.name))
    grid.add_row("", f"{shapes.architecture}, {shapes.layers} layers{mixture}, context {shapes.context}")
    grid.add_row(
        "parameters", f"{shapes.parameters() / 1e9:.2f} billion, of which a token meets {shapes.active() / 1e9:.2f}"
    )
    grid.add_row("weights", f"{load.total / 1e9:.1f} GB in {load.scheme.name}")
    grid.add_row("", ", ".join(f"{part} {size / 1e9:.1f}" for part, size in _by_size(plan)))
    grid.add_row("KV cache", _cache(plan))
    fp8 = "has FP8" if gpu.fp8 else "no FP8"
    grid.add_row(
        "GPUs",
        f"{machines.nodes} × {machines.per_node} {machines.name}: {gpu.memory_gib} GiB, {gpu.bandwidth} GB/s, "
        f"sm{gpu.sm}, {fp8}, {'NVLink' if gpu.nvlink else 'PCIe'}",
    )
    return grid


def _by_size(plan: Plan) -> list[tuple[Part, int]]:
    large = [(part, size) for part, size in plan.load.parts().items() if size >= plan.load.total / 1000]
    return sorted(large, key=lambda pair: -pair[1])


def _cache(plan: Plan) -> str:
    caches = plan.load.shapes.caches
    width = cache_width(plan.load, plan.demand)
    text = f"{token_bytes(plan.load, plan.demand):,.0f} bytes a token, {width:g} bytes a number"
    if caches[0].compressed:
        text += "; compressed (MLA): GPUs that share attention's heads each have it whole"
    if sliding := sum(bool(cache.window) for cache in caches):
        text += f"; {sliding} of {len(caches)} layers keep {max(cache.window for cache in caches)} tokens at most"
    return text


def _layouts(plan: Plan) -> Table:
    table = _table()
    table.add_column("one copy", no_wrap=True)
    for column in ("GPUs", "copies", "weights, GiB", "cache, GiB", "requests", "est. tokens/s"):
        table.add_column(column, justify="right")
    for option in plan.fitting[:_SHOWN]:
        memory = option.memory
        assert memory is not None
        table.add_row(
            f"[bold]{option.layout}[/bold]" if option is plan.best else str(option.layout),
            str(option.layout.gpus),
            str(option.copies),
            f"{memory.weight / GIB:.1f}",
            f"{memory.room / GIB:.1f}",
            f"{option.batch}",
            f"{option.tokens_per_s:.0f}",
        )
    return table


def _table() -> Table:
    return Table(box=SIMPLE, pad_edge=False)


def _left_out(plan: Plan) -> Iterator[str]:
    if len(plan.fitting) > _SHOWN:
        yield f"and {len(plan.fitting) - _SHOWN} more that fit: --json has them"
    # EP changes little of what does not fit: --json has that too.
    if small := [str(option.layout) for option in plan.rest if option.memory and option.layout.expert == 1]:
        yield f"Too little memory: {'; '.join(small)}."
    for reason, names in _by_reason(plan.rest).items():
        yield f"Cannot be, {reason}: {'; '.join(names)}."


def _by_reason(options: tuple[Option, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for option in options:
        if option.faults:
            found.setdefault(option.faults[0], []).append(str(option.layout))
    return found


def _memory(plan: Plan) -> str:
    memory = plan.best.memory
    assert memory is not None
    parts = {part.value: size for part, size in memory.weights.items() if size >= memory.weight / 100}
    parts["other weights"] = memory.weight - sum(parts.values())
    parts |= {"activations": memory.activations, "CUDA graphs": GRAPHS, "left for cache": memory.room}
    summed = " + ".join(f"{name} {size / GIB:.1f}" for name, size in parts.items())
    return f"{summed} = {memory.usable / GIB:.1f} usable of {plan.machines.gpu.memory_gib} GiB"


def _batches(plan: Plan) -> Table:
    table = _table()
    found = plan.batches()
    for length in found:
        table.add_column(f"{length}", justify="right")
    table.add_row(*(f"{batch}" for batch in found.values()))
    return table


def _links(plan: Plan) -> Table:
    links, speed = plan.best.traffic, plan.best.speed
    assert links is not None and speed is not None
    table = _table()
    for column in ("", "KB a token", f"MB for {speed.batch} requests", "over"):
        table.add_column(column, justify="right" if column else "left")
    inside = f"{'NVLink' if plan.machines.gpu.nvlink else 'PCIe'}, {plan.machines.gpu.link} GB/s"
    outside = f"the network, {plan.nic_gbps / 8:.0f} GB/s"
    mine = speed.batch / (plan.best.layout.tensor if plan.best.layout.attention_dp else 1)
    for name, size, far in (
        ("all-reduce (TP)", links.all_reduce, links.network),
        ("all-to-all (EP)", links.all_to_all, links.network),
        ("to the next stage (PP)", links.point_to_point, links.stages_network),
    ):
        over = (outside if far else inside) if size else "–"
        table.add_row(name, f"{size / 1e3:.1f}", f"{size * mine / 1e6:.2f}", over)
    return table


def _estimate(plan: Plan) -> Table:
    table = _table()
    columns = ("requests", f"TTFT of {plan.demand.prompt} tokens", "ms a token", "tokens/s a stream", "tokens/s in all")
    for column in columns:
        table.add_column(column, justify="right")
    for speed in speeds(plan):
        table.add_row(
            f"{speed.batch}",
            f"{speed.ttft_s * 1e3:.0f} ms",
            f"{speed.token_s * 1e3:.1f}",
            f"{speed.per_stream:.0f}",
            f"{speed.tokens_per_s:.0f}",
        )
    return table
