"""One engine twice on one GPU: its own server, and the same engine in our ensemble, taking turns in one run, one JSON.

``python -m loadtests.beside CONFIG --out OUT``: both are started together, each with the config's share of the memory,
which must leave room for two. What the machine does to one it does to the other, so the ratio is worth more than either
figure; a single one with the machine to itself is ``make compare``'s.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from contract.errors import ConchError, ServeError
from contract.manifest import engines_root, load_manifest, this_machine
from contract.spec import Deployment, load_spec
from loadtests.fleet import Fleet
from loadtests.lean import Order
from loadtests.own_server import LEAN_WAY, MODEL, command, interpreter, own_server
from loadtests.pipeline import itl, quantiles
from loadtests.served import ROOT, free_ports, served

WAYS = ("own", "ensemble", "gateway")


def orders(spec: Deployment, port: int, requests: list[dict[str, Any]]) -> dict[str, Order]:
    """The same requests, each way."""
    ports = spec.ports
    way = LEAN_WAY.get(spec.engine.runtime, "openai")
    return {
        "own": Order(way, "127.0.0.1", port, MODEL, requests),
        "ensemble": Order("grpc", ports.host, ports.grpc, spec.name, requests),
        "gateway": Order("openai", ports.host, ports.gateway, spec.name, requests),
    }


def burst(order: Order, clients: int) -> dict[str, Any]:
    """All requests at once, and what came of them.

    Raises:
        ServeError: one failed.
    """
    load = Fleet(order, clients).wait()
    failed = [each.error for each in load.timelines if each.error or not each.deltas]
    if failed:
        raise ServeError(f"{len(failed)} of {len(order.requests)} requests failed: {failed[0]}")
    lines = load.timelines
    took = max(each.deltas[-1][0] for each in lines) - min(each.sent for each in lines)
    tokens = sum(count for each in lines for _, count in each.deltas)
    return {
        "tokens": tokens,
        "tokens_per_s": round(tokens / took, 1),
        "ttft_ms": quantiles([each.deltas[0][0] - each.sent for each in lines]),
        **itl(lines),
    }


def measure(spec: Deployment, port: int, vocabulary: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every number of streams, round by round, way by way; prompts that no prefix cache has seen."""
    for streams in options.streams:
        for number in range(-1, options.rounds):  # the first warms up
            for way in WAYS if number % 2 == 0 else reversed(WAYS):
                rng = random.Random(f"{way}-{streams}-{number}")
                requests = [
                    {
                        "prompt": [rng.randrange(300, vocabulary - 300) for _ in range(options.input)],
                        "max_tokens": options.output,
                    }
                    for _ in range(streams)
                ]
                found = {"way": way, "streams": streams, "round": number}
                try:
                    found |= burst(orders(spec, port, requests)[way], options.clients)
                except (ConchError, ValueError, LookupError) as failure:
                    found["failed"] = str(failure)
                if number >= 0:
                    print(time.strftime("%H:%M:%S"), json.dumps(found), flush=True)
                    yield found


@contextmanager
def both(config: Path, spec: Deployment, engine: Path, log: Path) -> Iterator[int]:
    """Both servers, started at once; yields the port of the engine's own.

    Raises:
        ServeError: one did not start.
    """
    (port,) = free_ports(1)
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        ours, theirs = served(config), own_server(engine, spec, port, log)
        begun = [pool.submit(each.__enter__) for each in (ours, theirs)]
        for each, started in zip((ours, theirs), begun, strict=True):
            if not started.exception():
                stack.push(each.__exit__)
        for started in begun:
            started.result()
        yield port


def versions(runtime: str) -> dict[str, str]:
    """Of what a figure depends on, in the engine's environment."""
    about = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    run = subprocess.run([interpreter(runtime), "-c", about], capture_output=True, text=True, check=False)
    found: dict[str, str] = json.loads(run.stdout) if run.returncode == 0 else {}
    wanted = (runtime, "torch", "transformers", "triton", "flashinfer-python", "sglang-kernel", "xgrammar")
    return {name: found[name] for name in wanted if name in found}


def main() -> int:
    """Measure; what was measured is written even when a later part fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--input", type=int, default=512)
    parser.add_argument("--output", type=int, default=256)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    spec = load_spec(options.config)
    engine = (engines_root(ROOT, spec.name) / "current").resolve()
    gpu = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    log = options.out.with_suffix(".own.log")
    results: list[dict[str, Any]] = []
    report: dict[str, Any] = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {**this_machine().model_dump(), "cores": os.cpu_count()},
        "gpu": subprocess.run(gpu, capture_output=True, text=True, check=False).stdout.strip(),
        "versions": versions(spec.engine.runtime),
        "own_command": command(engine, spec, 0),
        "options": {name: str(each) if isinstance(each, Path) else each for name, each in vars(options).items()},
        "results": results,
    }
    failed = ""
    begun = time.monotonic()
    try:
        with both(options.config, spec, engine, log) as port:
            report["start_s"] = round(time.monotonic() - begun, 1)
            for found in measure(spec, port, load_manifest(engine).vocab_size, options):
                results.append(found)
                options.out.write_text(json.dumps(report, indent=1) + "\n")
    except ConchError as failure:
        failed = report["failed"] = str(failure)
    for streams in options.streams:
        of = {
            way: median(speeds)
            for way in WAYS
            if (speeds := [each["tokens_per_s"] for each in results
                           if (each["way"], each["streams"]) == (way, streams) and "tokens_per_s" in each])
        }  # fmt: skip
        if "own" in of:
            report[f"ratio_{streams}"] = {way: round(speed / of["own"], 3) for way, speed in of.items()}
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print({name: each for name, each in report.items() if name.startswith("ratio")}, failed, flush=True)
    return 1 if failed or any("failed" in each for each in results) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConchError as refusal:
        sys.exit(str(refusal))
