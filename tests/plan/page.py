"""The tables of docs/planning.md, by the tool itself: ``python -m tests.plan.page`` writes them, a test compares."""

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import mean

from rich.console import Console

from build.plan.architectures import FAMILIES
from build.plan.layout import Layout
from build.plan.machines import GIB, parse_machines
from build.plan.memory import Demand, memory_of, token_bytes
from build.plan.quantization import METHODS
from build.plan.roofline import Roofline
from build.plan.table import show
from build.plan.weights import Part
from contract.gpus import GPUS, USABLE
from tests.plan.models import R1_CONTEXT, R1_LISTED, ROOT, load_of, path_of, plan_of

PAGE = ROOT / "docs" / "planning.md"
R1 = "deepseek-r1"
_DEMAND = Demand(8192, 4096, 256, 8192)
_PLACE = re.compile(r"<!-- (?P<name>\w+): made by python -m tests\.plan\.page -->\n.*?<!-- end -->", re.DOTALL)


def rendered(text: str) -> str:
    """The page with every table made anew."""

    def made(place: re.Match[str]) -> str:
        begin = place[0].splitlines()[0]
        return "\n".join((begin, *TABLES[place["name"]](), "<!-- end -->"))

    return _PLACE.sub(made, text)


def _size() -> Iterator[str]:
    own, cast = load_of(R1), load_of(R1, quantization_config=None)
    main, mtp = own.shapes.parameters(), own.shapes.parameters(mtp=True)
    experts = (own.parts()[Part.EXPERTS], cast.parts()[Part.EXPERTS])
    yield "| | parameters, billion | in FP8, GB | cast to BF16, GB |"
    yield "|---|---|---|---|"
    for name, count, sizes in (
        ("experts alone", own.shapes.numbers_of(Part.EXPERTS), experts),
        ("all that is served", main, (own.total, cast.total)),
        ("the MTP module", mtp, (own.mtp_bytes, cast.mtp_bytes)),
        ("the checkpoint", main + mtp, (own.total + own.mtp_bytes, cast.total + cast.mtp_bytes)),
        ("memory that holds what is served", None, (own.total / USABLE, cast.total / USABLE)),
    ):
        numbers = f"{count / 1e9:.2f}" if count else ""
        yield f"| {name} | {numbers} | {' | '.join(f'{size / 1e9:.1f}' for size in sizes)} |"


def _fits() -> Iterator[str]:
    yield "| weights | GPUs | one copy | weights on a GPU, GiB | left, GiB | requests |"
    yield "|---|---|---|---|---|---|"
    for title, changes, machines in R1_LISTED:
        for gpus in machines:
            best = plan_of(R1, gpus, length=R1_CONTEXT, **changes).best
            assert best.memory
            sizes = f"{best.memory.weight / GIB:.1f} | {best.memory.room / GIB:.1f}"
            yield f"| {title} | `{gpus}` | {best.layout} | {sizes} | {best.batch} |"


def _cache() -> Iterator[str]:
    load, machines = load_of(R1), parse_machines("h200x8")
    yield "| DeepSeek-R1 on eight H200 | bytes a token | weights on a GPU, GiB | requests of 8192 tokens |"
    yield "|---|---|---|---|"
    for layout in (Layout(8), Layout(8, 1, 8, attention_dp=True)):
        memory = memory_of(load, layout, machines, _DEMAND)
        each = f"{memory.cached_requests} on each of 8" if layout.attention_dp else f"{memory.cached_requests}"
        yield f"| {layout} | {token_bytes(load, _DEMAND):,.0f} | {memory.weight / GIB:.1f} | {each} |"


def _plan() -> Iterator[str]:
    """As the terminal shows it, 100 columns wide."""
    plan = plan_of(R1, "h200x8x2")
    console = Console(file=io.StringIO(), width=100, highlight=False)
    show(replace(plan, config=replace(plan.config, name=str(path_of(R1).relative_to(ROOT)))), console)
    assert isinstance(console.file, io.StringIO)
    yield "```text"
    yield from (line.rstrip() for line in console.file.getvalue().rstrip().splitlines())
    yield "```"


def _speed() -> Iterator[str]:
    yield "| model | GPU | requests at once | measured, tokens/s | estimated | ratio |"
    yield "|---|---|---|---|---|---|"
    for model, gpu, streams, measured, estimated in compared():
        yield f"| {model} | {gpu} | {streams} | {measured:,.0f} | {estimated:,.0f} | {estimated / measured:.2f} |"


def compared() -> Iterator[tuple[str, str, int, float, float]]:
    """Model, GPU, requests at once, tokens a second as measured, and as the roofline has them."""
    alone = json.loads((ROOT / "docs" / "gpu-bench.json").read_text())
    steps, answer = alone["options"]["batched_tokens"], alone["options"]["output"]
    offline = [each for each in alone["results"] if each["way"] == "offline"]
    for streams in alone["options"]["streams"]:
        rates = [each["tokens_per_s"] for each in offline if each["streams"] == streams]
        estimated = _estimated("llama-3.1-8b", "h100", streams, alone["options"]["input"], answer, steps)
        yield "llama-3.1-8b", "h100", streams, mean(rates), estimated
    for model, report, engine, way in (
        ("llama-3.1-8b", "gpu-compare", "bench-llama-8b-vllm", "alone"),
        ("qwen2.5-32b", "h200-32b", "bench-qwen2.5-32b-vllm", "alone"),
        ("qwen3-30b-a3b", "h200-moe", "moe-bf16", "direct"),
    ):
        beside = json.loads((ROOT / "docs" / f"{report}.json").read_text())
        prompt, answer = beside["effort"]["input_tokens"], beside["effort"]["output_tokens"]
        (row,) = (each for each in beside["rows"] if (each["engine"], each["way"]) == (engine, way))
        for streams, figures in row["bursts"].items():
            estimated = _estimated(model, "h200", int(streams), prompt, answer, steps)
            yield model, "h200", int(streams), figures["tokens_per_s"], estimated


def _estimated(model: str, gpu: str, streams: int, prompt: int, answer: int, steps: int) -> float:
    """Tokens a second of requests that come at once: their prompts, as many in a step as it takes; then tokens."""
    together = min(streams, steps // prompt)
    prefill = _roofline(model, gpu, Demand(together * prompt + answer, together * prompt, 1, steps)).speed(1).ttft_s
    decode = _roofline(model, gpu, Demand(prompt + answer, prompt, streams, steps)).speed(streams).token_s
    return streams * answer / (streams / together * prefill + (answer - 1) * decode)


def _roofline(model: str, gpu: str, demand: Demand) -> Roofline:
    return Roofline(load_of(model), Layout(), parse_machines(gpu), demand, 400)


def _known() -> Iterator[str]:
    for title, names in (
        ("Architectures", FAMILIES),
        ("Quantizations of a checkpoint (`quant_method`)", METHODS),
        ("GPUs", GPUS),
    ):
        yield f"- {title}: {', '.join(f'`{name}`' for name in names)}."


TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "size": _size,
    "fits": _fits,
    "cache": _cache,
    "plan": _plan,
    "speed": _speed,
    "known": _known,
}

if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
