"""``make bench-pipeline``: what both ways to an engine carry and cost, over one that emits 51,200 tokens/s.

Nothing here depends on a model, so a change of the stages can be judged without a GPU: tokens/s at the client, and CPU
seconds a million tokens for every process on the way.
"""

import argparse
import json
import random
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import psutil

from contract.checkout import ROOT
from contract.spec import Deployment, load_spec
from contract.tensors import stage_names
from loadtests.command import ended, head, kept
from loadtests.family import GUARD, cpu_s, family_of
from loadtests.fleet import Fleet, fresh
from loadtests.lean import Order
from loadtests.served import served, state_of
from loadtests.timelines import in_window, itl_and_gaps, quantiles, tokens, ttft, whole

PROMPT_TOKENS = 32
ANSWER_TOKENS = 1024
RAMP_S = 4.0  # not counted: every stream's first tokens


def processes(supervisor_pid: int) -> dict[str, psutil.Process]:
    """A deployment's processes by what they are: Triton, its stages, an engine's worker, what runs beside them."""
    family = family_of(supervisor_pid)
    return {name.rpartition("_")[2]: each for name, each in family.items() if not name.endswith(GUARD)}


def cpu_of(found: dict[str, psutil.Process]) -> dict[str, float]:
    """CPU time that each has used so far."""
    return {name: cpu_s([process]) for name, process in found.items()}


def measure(spec: Deployment, model: str, streams: int, seconds: float, clients: int) -> dict[str, Any]:
    """One load of a model, and what it cost while it was steady."""
    requests = fresh(random.Random(7), range(32, 127), streams, PROMPT_TOKENS, ANSWER_TOKENS)
    order = Order("grpc", spec.ports.host, spec.ports.grpc, model, requests, streams, RAMP_S + seconds)
    fleet = Fleet(order, clients)
    begins = fleet.start_at + RAMP_S
    time.sleep(max(0.0, begins - time.time()))
    found = processes(int(state_of(spec)["supervisor_pid"]))
    before = cpu_of(found)
    time.sleep(seconds)
    ends, after = time.time(), cpu_of(found)
    load = fleet.wait()
    lines = whole(load.timelines)
    came, responses = in_window(lines, begins, ends)
    used = {name: after[name] - before[name] for name in after}
    return {
        "model": model,
        "streams": streams,
        "tokens_per_s": round(came / (ends - begins)),
        "responses_per_s": round(responses / (ends - begins)),
        "tokens_per_response": round(came / responses, 1),
        **itl_and_gaps(lines),
        "ttft_ms": quantiles(ttft(lines)),
        "wrong_texts": sum(each.text != _echo(requests, each.text) for each in lines)
        if spec.engine.runtime == "synthetic"
        else None,
        "cpu_s_per_million_tokens": {
            **{name: round(1e6 * each / came, 2) for name, each in used.items()},
            "clients": round(1e6 * load.cpu_s / tokens(lines), 2),
        },
        "cpu_ms_per_response": {name: round(1e3 * each / responses, 3) for name, each in used.items()},
    }


def _echo(requests: list[dict[str, Any]], text: str) -> str:
    """What the synthetic engine must have said, given how its answer begins."""
    for request in requests:
        said = bytes(request["prompt"]).decode()
        if text.startswith(said):
            return (said * (ANSWER_TOKENS // len(said) + 1))[:ANSWER_TOKENS]
    return ""


def main(arguments: Sequence[str]) -> int:
    """Run it and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "pipeline.yaml")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, default=2, help="client processes")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench-pipeline.json")
    options = parser.parse_args(arguments)
    config = options.config.resolve()
    spec = load_spec(config)
    results: list[dict[str, Any]] = []
    report = {
        **head(),
        "streaming": spec.streaming.model_dump(),
        "step_ms": spec.engine.step_ms,
        "answer_tokens": ANSWER_TOKENS,
        "clients": options.clients,
        "results": results,
    }
    with served(config), kept(options.out, report, results):
        for streams, model in product(options.streams, (spec.name, stage_names(spec.name)[1])):
            results.append(measure(spec, model, streams, options.seconds, options.clients))
            print(json.dumps(results[-1], indent=1), flush=True)
    return 0


if __name__ == "__main__":
    ended(main)
