"""``make bench-gateway``: what a request costs one process of the gateway, over an engine without a model.

Bursts of 64 streams, prompts of 512 token ids; answers of one token show what a request costs, long ones what a chunk
does. The same bursts straight to the engine's stage, which the gateway asks, tell its part of the first token's time;
one stream at a time tells it without a queue.
"""

import argparse
import json
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from contract import programs
from contract.checkout import ROOT
from contract.spec import Deployment, load_spec
from contract.tensors import stage_names
from loadtests.command import ended, head, kept
from loadtests.family import cpu_s, with_words
from loadtests.first_token import alone
from loadtests.fleet import Fleet, fresh
from loadtests.lean import Order, Timeline
from loadtests.served import served
from loadtests.timelines import ttft, whole

STREAMS, PROMPT_TOKENS, LONG = 64, 512, 256
ALONE = 20  # requests of one stream, a round


def measure(spec: Deployment, config: Path, answer_tokens: int, rounds: int) -> dict[str, Any]:
    """Bursts through the gateway, and straight to what it asks in turn."""
    doors = with_words(*programs.GATEWAY, str(config))()
    used, lines, straight = 0.0, [], []
    for number in range(rounds):
        before = cpu_s(doors)
        lines += _burst(spec, "openai", answer_tokens, number)
        used += cpu_s(doors) - before
        straight += _burst(spec, "grpc", answer_tokens, number)
    return {
        "answer_tokens": answer_tokens,
        "requests": len(lines),
        "chunks_per_request": round(sum(len(each.deltas) for each in lines) / len(lines), 1),
        "gateway_cpu_ms_per_request": round(1000 * used / len(lines), 2),
        "ttft_p50_ms": round(1000 * statistics.median(ttft(lines)), 1),
        "direct_ttft_p50_ms": round(1000 * statistics.median(ttft(straight)), 1),
    }


def _burst(spec: Deployment, way: str, answer_tokens: int, number: int) -> list[Timeline]:
    requests = fresh(random.Random(number), range(32, 127), STREAMS, PROMPT_TOKENS, answer_tokens)
    port, model = spec.ports.gateway, spec.name
    if way == "grpc":
        port, model = spec.ports.grpc, stage_names(spec.name)[1]
    order = Order(way, spec.ports.host, port, model, requests)
    return whole(Fleet(order, 1).wait().timelines, way)


def main(arguments: Sequence[str]) -> int:
    """Run it and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench-gateway.json")
    options = parser.parse_args(arguments)
    data = yaml.safe_load((ROOT / "configs" / "pipeline.yaml").read_text())
    config = ROOT / ".conch" / "bench-gateway.yaml"
    config.parent.mkdir(exist_ok=True)
    config.write_text(
        yaml.safe_dump(data | {"name": "bench-gateway", "gateway": {"max_queue_size": STREAMS, "processes": 1}})
    )
    spec = load_spec(config)
    results: list[dict[str, Any]] = []
    report = {**head(), "streams": STREAMS, "prompt_tokens": PROMPT_TOKENS, "results": results}
    with served(config), kept(options.out, report, results):
        measure(spec, config, 1, 1)  # warms up
        for answer_tokens, rounds in ((1, options.rounds), (LONG, max(1, options.rounds // 3))):
            results.append(measure(spec, config, answer_tokens, rounds))
            print(json.dumps(results[-1], indent=1), flush=True)
        cost, chunks = (
            [each[name] for each in results] for name in ("gateway_cpu_ms_per_request", "chunks_per_request")
        )
        report["one_stream"] = alone(spec, ALONE * options.rounds, PROMPT_TOKENS)
        report["gateway_cpu_ms_per_chunk"] = round((cost[1] - cost[0]) / (chunks[1] - chunks[0]), 3)
    print(f"gateway_cpu_ms_per_chunk: {report['gateway_cpu_ms_per_chunk']}; one stream: {report['one_stream']}")
    return 0


if __name__ == "__main__":
    ended(main)
