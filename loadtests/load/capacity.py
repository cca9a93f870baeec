"""``make capacity``: the rate that a deployment holds within its objectives, found by load tests at rate after rate.

Each step is a whole load test with a report of its own. Steps are kept as they end, so a search that was interrupted
goes on where it was; it ends when the answer is close enough or its time is over, whichever is first.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtests.command import ended, write
from loadtests.load.__main__ import aimed, parsed, parser, reported, up
from loadtests.load.charts import Line, chart
from loadtests.load.fault import LoadError
from loadtests.load.options import Plan, plan_of
from loadtests.load.report import rendered
from loadtests.load.search import Bracket, Tried, bracket, next_rate
from loadtests.load.surroundings import surroundings

STEPS = "steps.jsonl"
_HIGHEST = 10_000.0
_OVERHEAD_S = 12.0  # of a step, beyond its schedule: starting, canaries, reading the last answers


@dataclass(frozen=True)
class Step:
    """A rate that was tried."""

    rate: float
    held: bool
    valid: bool
    invalid_because: list[str]
    slo: list[dict[str, Any]]
    output_tokens_per_s: float
    goodput_per_s: float
    failed: int
    in_flight: dict[str, float]
    lag_p99_ms: float
    model: str

    @property
    def grows(self) -> bool:
        """Whether requests piled up."""
        return self.in_flight["last_quarter"] > 1.25 * self.in_flight["first_quarter"] + 1


def step_of(rate: float, report: dict[str, Any]) -> Step:
    """What a load test's report says of its rate."""
    summary = report["summary"]
    met = all(each["met"] for each in summary["slo"])
    return Step(
        rate=rate,
        held=met and summary["valid"],
        valid=summary["valid"],
        invalid_because=summary["invalid_because"],
        slo=summary["slo"],
        output_tokens_per_s=summary["throughput"]["output_tokens_per_s"],
        goodput_per_s=summary["goodput"]["per_s"],
        failed=sum(error["count"] for error in summary["errors"]),
        in_flight=summary["in_flight"],
        lag_p99_ms=summary["load"]["lag_ms"]["p99"],
        model=summary["load"]["model"],
    )


def sentence(steps: Sequence[Step], plan: Plan, *, in_time: bool) -> str:
    """The answer in words."""
    found = _bracket(steps)
    limits = ", ".join(f"{str(each).replace(' <', f' p{plan.slo_percentile:g} <')}" for each in plan.slo)
    name = steps[0].model
    if found.low is None:
        assert found.high is not None
        return f"{name} does not hold even {found.high:.2f} requests/s ({limits})."
    said = f"{name} holds {found.low:.2f} requests/s ({limits})"
    if found.high is None:
        why = "higher rates were not tried" if in_time else "the time was over before its limit was found"
        return f"{said}; {why}."
    beyond = next(step for step in steps if step.rate == found.high)
    if not beyond.valid:
        return f"{said}; at {found.high:.2f} the client was at its limit, not the server: {beyond.invalid_because[0]}."
    missed = ", ".join(each["objective"].split(" <")[0] for each in beyond.slo if not each["met"])
    grows = "the queue grows" if beyond.grows else f"{missed} is missed"
    early = "" if in_time else " The time was over before the search was done."
    return f"{said}; beyond it {grows} (tried: {found.high:.2f}).{early}"


def search(options: argparse.Namespace, rest: Sequence[str], out: Path) -> tuple[list[Step], bool]:
    """Try rates until the answer is known or the time is over; returns the steps, and whether it came to its end."""
    ends = time.monotonic() + options.budget
    steps = _resumed(out, options)
    while (rate := next_rate(_tried(steps), options.rate, options.precision, options.lowest, _HIGHEST)) is not None:
        if time.monotonic() + options.seconds + _OVERHEAD_S > ends:
            return steps, False
        # A seed of its own: a question that was asked before is in the server's prefix cache.
        own = {"rate": rate, "seed": options.seed + len(steps), "out": str(out / f"{rate:.3f}")}
        asked = argparse.Namespace(**vars(options) | own)
        step = step_of(rate, reported(asked, rest, out / "locust.log"))
        steps.append(step)
        with (out / STEPS).open("a") as file:
            file.write(json.dumps(asdict(step)) + "\n")
        print(_line(step), flush=True)
    return steps, True


def main(arguments: Sequence[str]) -> int:
    """Search, and write capacity.json and capacity.html.

    Raises:
        ConchError: it cannot be run as asked.
    """
    own = parser()
    own.set_defaults(seconds=24.0, warm_up=4.0, cool_down=2.0, canary_every=0.0, out=".conch/loadtests/capacity")
    own.add_argument("--budget", type=float, default=290.0, help="seconds that the whole search may take")
    own.add_argument("--lowest", type=float, default=0.05, help="requests/s below which nothing is tried")
    own.add_argument("--precision", type=float, default=0.06, help="the answer is known to within this share")
    options, rest = parsed(own, arguments)
    spec = aimed(options)
    plan = plan_of(options)
    if plan.closed or not plan.slo:
        raise LoadError("a capacity is an open loop's, within objectives", fix="Leave out --loop, give --slo")
    if min(options.precision, options.budget, options.lowest) <= 0:
        raise LoadError("--precision, --budget and --lowest must be above 0")
    options.fail_on = ""  # a step that misses its objectives is an answer
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    with up(options.config if spec else None):
        steps, in_time = search(options, rest, out)
    if not steps:
        raise LoadError(f"--budget {options.budget:g} is too short for one step of {options.seconds:g} s")
    report = {
        "format": 1,
        "sentence": sentence(steps, plan, in_time=in_time),
        "holds_per_s": _bracket(steps).low,
        "fails_at_per_s": _bracket(steps).high,
        "finished": in_time,
        "step_seconds": options.seconds,
        "steps": [asdict(step) for step in steps],
        "surroundings": surroundings(plan.deployment),
    }
    write(out / "capacity.json", report)
    page = {
        "report": report,
        "charts": _charts(steps, plan),
        "surroundings": json.dumps(report["surroundings"], indent=1),
    }
    (out / "capacity.html").write_text(rendered("capacity.html.j2", title=f"Capacity: {steps[0].model}", **page))
    if in_time:
        (out / STEPS).unlink()  # the next search begins anew
    print(f"{report['sentence']}\nreport: {out / 'capacity.html'}")
    return 0


def _resumed(out: Path, options: argparse.Namespace) -> list[Step]:
    """The steps of a search that was interrupted, if it was this one."""
    wanted = {name: value for name, value in vars(options).items() if name not in {"budget", "config"}}
    asked, kept = out / "asked.json", out / STEPS
    same = asked.exists() and json.loads(asked.read_text()) == wanted
    asked.write_text(json.dumps(wanted, indent=1) + "\n")
    if not same or not kept.exists():
        kept.unlink(missing_ok=True)
        return []
    steps = [Step(**json.loads(line)) for line in kept.read_text().splitlines()]
    for step in steps:
        print(f"{_line(step)} (kept from before)", flush=True)
    return steps


def _tried(steps: Sequence[Step]) -> list[Tried]:
    return [Tried(step.rate, step.held) for step in steps]


def _bracket(steps: Sequence[Step]) -> Bracket:
    return bracket(_tried(steps))


def _line(step: Step) -> str:
    measured = ", ".join(
        f"{each['objective']}: {1000 * each['measured_s']:.0f} ms"
        if each["measured_s"] is not None
        else each["objective"]
        for each in step.slo
    )
    verdict = "holds" if step.held else "does not hold" if step.valid else f"INVALID ({step.invalid_because[0]})"
    return f"{step.rate:6.2f} requests/s: {verdict} ({measured}; {step.output_tokens_per_s:.0f} tokens/s)"


def _charts(steps: Sequence[Step], plan: Plan) -> list[str]:
    ordered = sorted(steps, key=lambda step: step.rate)
    drawn = []
    for number, each in enumerate(plan.slo):
        points = [(step.rate, 1000 * at) for step in ordered if (at := step.slo[number]["measured_s"]) is not None]
        title = f"{each.name.upper()} p{plan.slo_percentile:g} against the rate"
        lines = [Line("", points), Line("", points, "dots")]
        drawn.append(chart(title, lines, x="requests/s", y="ms", limits=[1000 * each.limit_s]))
    carried = [(step.rate, step.output_tokens_per_s) for step in ordered]
    drawn.append(chart("Throughput against the rate", [Line("", carried)], x="requests/s", y="tokens/s"))
    good = [(step.rate, step.goodput_per_s) for step in ordered]
    drawn.append(chart("Goodput against the rate", [Line("", good)], x="requests/s", y="good answers/s"))
    return [each for each in drawn if each]


if __name__ == "__main__":
    ended(main)
