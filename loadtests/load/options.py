"""The options of a load test: one list for our own commands and for Locust's, read once into a frozen plan."""

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.load.fault import LoadError
from loadtests.load.lengths import lengths
from loadtests.load.schedule import Arrival, schedule
from loadtests.load.slo import Objective, objectives
from loadtests.load.streams.target import Stream, Target
from loadtests.load.streams.triton import check_extra
from loadtests.load.workload import QUESTIONS, Workload, read_prompts

TRANSPORTS = ("openai", "openai-text", "triton-http", "triton-grpc")
SLO = "ttft<500ms,tpot<60ms"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Ours; ``--host``, ``--users`` and the rest are Locust's."""
    what = parser.add_argument_group("what is loaded")
    what.add_argument("--transport", choices=TRANSPORTS, default="openai", help="how it is asked")
    what.add_argument("--model", default="", help="default: the first of /v1/models; ensemble for Triton")
    what.add_argument("--timeout", type=float, default=60.0, help="seconds until a request is given up")

    load = parser.add_argument_group("the load")
    load.add_argument("--loop", choices=("open", "closed"), default="open", help="closed: --users ask when answered")
    load.add_argument("--arrivals", default="poisson", help="constant, poisson, gamma:SHAPE, ramp:FROM-TO, trace:FILE")
    load.add_argument("--rate", type=float, default=2.0, help="requests a second of the open loop")
    load.add_argument("--think", type=float, default=0.0, help="seconds between an answer and its user's next request")
    load.add_argument("--seconds", type=float, default=60.0, help="length of the schedule")
    load.add_argument("--warm-up", type=float, default=5.0, help="seconds at the beginning that do not count")
    load.add_argument("--cool-down", type=float, default=5.0, help="seconds at the end that do not count")
    load.add_argument("--seed", type=int, default=1)

    asked = parser.add_argument_group("what is asked")
    asked.add_argument("--prompts", default=str(QUESTIONS), help="a file of prompts")
    asked.add_argument("--prompt-tokens", default="", help="prose of such lengths instead: 64, uniform:16-256, …")
    asked.add_argument("--answer-tokens", default="64", help="max_tokens: 64, uniform:16-256, normal:128,32, …")
    asked.add_argument("--same-prompts", action="store_true", help="let prompts repeat, for prefix caches")
    asked.add_argument("--shared-prefixes", type=int, default=0, help="so many system prompts, shared by all")
    asked.add_argument("--shared-prefix-tokens", type=int, default=256)
    asked.add_argument("--turns", type=int, default=1, help="of each conversation; each carries what was said")
    asked.add_argument("--json-share", type=float, default=0.0, help="share of requests with a JSON schema")
    asked.add_argument("--tool-share", type=float, default=0.0, help="share of requests that must call a tool")
    asked.add_argument("--cancel-share", type=float, default=0.0, help="share that leaves after a few chunks")
    asked.add_argument("--extra", default="", help='further fields of every request: {"ignore_eos": true}')

    judged = parser.add_argument_group("how it is judged")
    judged.add_argument("--slo", default=SLO, help="limits that a good answer keeps")
    judged.add_argument("--slo-percentile", type=float, default=95.0)
    judged.add_argument("--max-lag-ms", type=float, default=50.0, help="of the schedule at p99; beyond it: INVALID")
    judged.add_argument("--max-cpu", type=float, default=80.0, help="percent of a core a worker; beyond it: INVALID")
    judged.add_argument("--canary-every", type=float, default=5.0, help="seconds between known questions; 0: none")
    judged.add_argument("--canaries", default="", help='a file of {"prompt": …, "answer": …} lines')
    judged.add_argument("--baseline", default="", help="a report.json to compare with")
    judged.add_argument(
        "--tolerance", type=float, default=10.0, help="percent worse than the baseline that is let pass"
    )
    judged.add_argument("--fail-on", default="", help="slo, regression or both (slo,regression): exit code 1")

    kept = parser.add_argument_group("what is kept")
    kept.add_argument("--metrics-url", default="", help="pages of metrics read each second, by commas")
    kept.add_argument("--deployment", default="", help="the config that serves, for the report")
    kept.add_argument("--out", default=".conch/loadtests/last", help="folder of rows.jsonl, report.html, report.json")


@dataclass(frozen=True)
class Plan:
    """What a run does, as its options say."""

    target: Target
    transport: str
    closed: bool
    arrivals: str
    rate: float
    think_s: float
    seconds: float
    warm_up_s: float
    cool_down_s: float
    seed: int
    workload: Workload
    slo: tuple[Objective, ...]
    slo_percentile: float
    max_lag_s: float
    max_cpu: float
    canary_every_s: float
    canaries: Path | None
    baseline: Path | None
    tolerance: float
    fail_on: frozenset[str]
    metrics_urls: tuple[str, ...]
    deployment: Path | None
    out: Path

    def schedule(self) -> list[Arrival]:
        """The whole run's arrivals."""
        return schedule(self.arrivals, self.rate, self.seconds, self.seed)

    def stream(self) -> Stream:
        """The transport, ready to ask."""
        from loadtests.load.streams.openai import OpenAI
        from loadtests.load.streams.triton_http import TritonHttp

        if self.transport == "triton-grpc":
            from loadtests.load.streams.triton_grpc import TritonGrpc  # only who uses it has gRPC on gevent

            return TritonGrpc(self.target)
        if self.transport == "triton-http":
            return TritonHttp(self.target)
        return OpenAI(self.target, chat=self.transport == "openai")


def plan_of(options: argparse.Namespace) -> Plan:
    """The plan of these options.

    Raises:
        LoadError: naming the first option that is wrong.
    """
    triton = options.transport.startswith("triton")
    _check(options, triton=triton)
    extra = _object(options.extra)
    if triton:
        check_extra(extra)
    key = os.environ.get("CONCH_API_KEY")
    target = Target(
        options.host or "",
        options.model or ("ensemble" if triton else ""),
        options.timeout,
        {"Authorization" if not triton else "authorization": f"Bearer {key}"} if key else {},
    )
    _ = target.address  # refuses one that is none
    workload = Workload(
        prompts=read_prompts(Path(options.prompts)),
        answer_tokens=lengths(options.answer_tokens, "--answer-tokens"),
        prompt_tokens=lengths(options.prompt_tokens, "--prompt-tokens") if options.prompt_tokens else None,
        unique=not options.same_prompts,
        shared_prefixes=options.shared_prefixes,
        shared_prefix_tokens=options.shared_prefix_tokens,
        turns=options.turns,
        json_share=options.json_share,
        tool_share=options.tool_share,
        cancel_share=options.cancel_share,
        extra=extra,
        seed=options.seed,
    )
    plan = Plan(
        target=target,
        transport=options.transport,
        closed=options.loop == "closed",
        arrivals=options.arrivals,
        rate=options.rate,
        think_s=options.think,
        seconds=options.seconds,
        warm_up_s=options.warm_up,
        cool_down_s=options.cool_down,
        seed=options.seed,
        workload=workload,
        slo=objectives(options.slo),
        slo_percentile=options.slo_percentile,
        max_lag_s=options.max_lag_ms / 1000,
        max_cpu=options.max_cpu,
        canary_every_s=options.canary_every,
        canaries=Path(options.canaries) if options.canaries else None,
        baseline=Path(options.baseline) if options.baseline else None,
        tolerance=options.tolerance,
        fail_on=frozenset(filter(None, options.fail_on.split(","))),
        metrics_urls=tuple(filter(None, options.metrics_url.split(","))),
        deployment=Path(options.deployment) if options.deployment else None,
        out=Path(options.out),
    )
    if not plan.closed:
        plan.schedule()  # refuses one that cannot be drawn
    return plan


def _check(options: argparse.Namespace, *, triton: bool) -> None:
    for name in ("timeout", "seconds"):
        if getattr(options, name) <= 0:
            raise LoadError(f"--{name}: must be above 0, got {getattr(options, name):g}")
    for name in ("warm_up", "cool_down", "think", "canary_every", "shared_prefixes", "tolerance", "max_lag_ms"):
        if getattr(options, name) < 0:
            raise LoadError(f"--{name.replace('_', '-')}: must not be below 0, got {getattr(options, name):g}")
    for name in ("json_share", "tool_share", "cancel_share"):
        if not 0 <= getattr(options, name) <= 1:
            raise LoadError(f"--{name.replace('_', '-')}: must be from 0 to 1, got {getattr(options, name):g}")
    if options.json_share + options.tool_share > 1:
        raise LoadError("--json-share and --tool-share are more than the whole together")
    if options.warm_up + options.cool_down >= options.seconds:
        raise LoadError(
            f"--warm-up and --cool-down leave nothing of --seconds {options.seconds:g}", fix="Make the run longer"
        )
    if options.turns < 1:
        raise LoadError(f"--turns: must be 1 or more, got {options.turns}")
    if not 0 < options.slo_percentile <= 100:
        raise LoadError(f"--slo-percentile: must be above 0 and at most 100, got {options.slo_percentile:g}")
    if triton and options.tool_share:
        raise LoadError("--tool-share: Triton's tensors know no tools", fix="Use --transport openai")
    if options.transport == "openai-text" and options.tool_share:
        raise LoadError("--tool-share: completions know no tools", fix="Use --transport openai")
    unknown = set(filter(None, options.fail_on.split(","))) - {"slo", "regression"}
    if unknown:
        raise LoadError(f"--fail-on: {sorted(unknown)[0]!r} is neither slo nor regression")
    if "regression" in options.fail_on and not options.baseline:
        raise LoadError("--fail-on regression needs --baseline")
    for name in ("baseline", "canaries", "deployment"):
        path = getattr(options, name)
        if path and not Path(path).is_file():
            raise LoadError(f"--{name}: no file {path}")


def _object(text: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise LoadError(f"--extra: {text!r} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise LoadError(f"--extra: must be a JSON object, got {text}")
    return value
