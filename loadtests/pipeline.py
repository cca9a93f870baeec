"""``make bench-pipeline``: what the ensemble itself carries and costs, over an engine that emits 51,200 tokens/s.

Nothing here depends on a model, so a change of the stages can be judged without a GPU: tokens/s at the client, and CPU
seconds a million tokens for every process on the way.
"""

import argparse
import json
import os
import platform
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from contract.errors import ConchError, ServeError
from contract.manifest import this_machine
from contract.spec import Deployment, load_spec
from loadtests.fleet import Fleet, gaps, in_window
from loadtests.lean import Order, Timeline
from loadtests.served import ROOT, served

PROMPT_TOKENS = 32
ANSWER_TOKENS = 1024
RAMP_S = 4.0  # not counted: every stream's first tokens


def processes(server_pid: int) -> dict[str, psutil.Process]:
    """The server's processes by what they are: Triton itself, its stages, an engine's worker."""
    server = psutil.Process(server_pid)
    found = {"tritonserver": server}
    for child in server.children(recursive=True):
        command = child.cmdline()
        name = next((part.split("/")[-3] for part in command if part.endswith("/1/model.py")), "")
        if not name and "python_backend.worker" in command:
            name = "worker"
        found[name.rpartition("_")[2] or child.name()] = child
    return found


def cpu_s(found: dict[str, psutil.Process]) -> dict[str, float]:
    """CPU time that each has used so far."""
    return {name: sum(process.cpu_times()[:2]) for name, process in found.items()}


def quantiles(values: list[float]) -> dict[str, float]:
    """p50, p95 and p99 in ms."""
    cuts = statistics.quantiles(values * 2 if len(values) == 1 else values, n=100, method="inclusive")
    return {f"p{q}": round(1000 * cuts[q - 1], 2) for q in (50, 95, 99)}


def itl(timelines: list[Timeline]) -> dict[str, Any]:
    """Times between tokens (a response's gap is shared among its tokens), and between responses."""
    between = list(gaps(timelines))
    return {
        "itl_ms": quantiles([gap / count for gap, count in between if count for _ in range(count)]),
        "gap_ms": quantiles([gap for gap, _ in between]),
    }


def measure(spec: Deployment, server_pid: int, streams: int, seconds: float, clients: int) -> dict[str, Any]:
    """One load, and what it cost while it was steady."""
    rng = random.Random(7)
    requests = [
        {"prompt": [rng.randrange(32, 127) for _ in range(PROMPT_TOKENS)], "max_tokens": ANSWER_TOKENS}
        for _ in range(streams)
    ]
    order = Order("grpc", spec.ports.host, spec.ports.grpc, spec.name, requests, streams, RAMP_S + seconds)
    fleet = Fleet(order, clients)
    begins = fleet.start_at + RAMP_S
    time.sleep(max(0.0, begins - time.time()))
    found = processes(server_pid)
    before = cpu_s(found)
    time.sleep(seconds)
    ends, after = time.time(), cpu_s(found)
    load = fleet.wait()
    failed = [each.error for each in load.timelines if each.error]
    if failed:
        raise ServeError(f"{len(failed)} requests failed: {failed[0]}")
    wrong = sum(each.text != _echo(requests, each.text) for each in load.timelines)
    tokens, responses = in_window(load.timelines, begins, ends)
    every = sum(count for each in load.timelines for _, count in each.deltas)
    used = {name: after[name] - before[name] for name in after}
    return {
        "streams": streams,
        "tokens_per_s": round(tokens / (ends - begins)),
        "responses_per_s": round(responses / (ends - begins)),
        "tokens_per_response": round(tokens / responses, 1),
        **itl(load.timelines),
        "ttft_ms": quantiles([each.deltas[0][0] - each.sent for each in load.timelines]),
        "wrong_texts": wrong,
        "cpu_s_per_million_tokens": {
            **{name: round(1e6 * each / tokens, 2) for name, each in used.items()},
            "clients": round(1e6 * load.cpu_s / every, 2),
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


def main() -> None:
    """Run it and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "pipeline.yaml")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, default=2, help="client processes")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench-pipeline.json")
    options = parser.parse_args()
    config = options.config.resolve()
    spec = load_spec(config)
    with served(config) as server_pid:
        results = [measure(spec, server_pid, each, options.seconds, options.clients) for each in options.streams]
    report = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {**this_machine().model_dump(), "cores": os.cpu_count(), "kernel": platform.release()},
        "streaming": spec.streaming.model_dump(),
        "step_ms": spec.engine.step_ms,
        "answer_tokens": ANSWER_TOKENS,
        "clients": options.clients,
        "results": results,
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    try:
        main()
    except ConchError as refusal:
        sys.exit(str(refusal))
