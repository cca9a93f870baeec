"""``make bench-gateway``: what a request costs the gateway's one process, over an engine without a model.

Bursts of 64 streams, prompts of 512 token ids; answers of one token show what a request costs, long ones what a chunk
does. The same bursts straight to the ensemble tell the first token's part of the gateway.
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
import yaml

from contract.errors import ConchError, ServeError
from contract.manifest import this_machine
from contract.spec import Deployment, load_spec
from loadtests.fleet import Fleet
from loadtests.lean import Order, Timeline
from loadtests.meter import family
from loadtests.served import ROOT, served

STREAMS, PROMPT_TOKENS, LONG = 64, 512, 256


def measure(spec: Deployment, config: Path, answer_tokens: int, rounds: int) -> dict[str, Any]:
    """Bursts through the gateway, and straight to the ensemble in turn."""
    doors = family("-m", "gateway", str(config))()
    used, lines, straight = 0.0, [], []
    for number in range(rounds):
        before = _cpu_s(doors)
        lines += _burst(spec, "openai", answer_tokens, number)
        used += _cpu_s(doors) - before
        straight += _burst(spec, "grpc", answer_tokens, number)
    return {
        "answer_tokens": answer_tokens,
        "requests": len(lines),
        "chunks_per_request": round(sum(len(each.deltas) for each in lines) / len(lines), 1),
        "gateway_cpu_ms_per_request": round(1000 * used / len(lines), 2),
        "ttft_p50_ms": round(_ttft_ms(lines), 1),
        "ensemble_ttft_p50_ms": round(_ttft_ms(straight), 1),
    }


def _burst(spec: Deployment, way: str, answer_tokens: int, number: int) -> list[Timeline]:
    rng = random.Random(number)
    requests = [
        {"prompt": [rng.randrange(32, 127) for _ in range(PROMPT_TOKENS)], "max_tokens": answer_tokens}
        for _ in range(STREAMS)
    ]
    ports = spec.ports
    order = Order(way, ports.host, ports.gateway if way == "openai" else ports.grpc, spec.name, requests)
    lines = Fleet(order, 1).wait().timelines
    if failed := [each.error for each in lines if each.error]:
        raise ServeError(f"{way}: {len(failed)} requests failed: {failed[0]}")
    return lines


def _cpu_s(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def _ttft_ms(lines: list[Timeline]) -> float:
    return 1000 * statistics.median(each.deltas[0][0] - each.sent for each in lines)


def main() -> None:
    """Run it and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench-gateway.json")
    options = parser.parse_args()
    data = yaml.safe_load((ROOT / "configs" / "pipeline.yaml").read_text())
    config = ROOT / ".conch" / "bench-gateway.yaml"
    config.parent.mkdir(exist_ok=True)
    config.write_text(yaml.safe_dump(data | {"name": "bench-gateway", "gateway": {"max_queue_size": STREAMS}}))
    spec = load_spec(config)
    with served(config):
        measure(spec, config, 1, 1)  # warms up
        results = [measure(spec, config, 1, options.rounds), measure(spec, config, LONG, max(1, options.rounds // 3))]
    one, long = results
    chunk_ms = (long["gateway_cpu_ms_per_request"] - one["gateway_cpu_ms_per_request"]) / (
        long["chunks_per_request"] - one["chunks_per_request"]
    )
    report = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {**this_machine().model_dump(), "cores": os.cpu_count(), "kernel": platform.release()},
        "streams": STREAMS,
        "prompt_tokens": PROMPT_TOKENS,
        "gateway_cpu_ms_per_chunk": round(chunk_ms, 3),
        "results": results,
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    try:
        main()
    except ConchError as refusal:
        sys.exit(str(refusal))
