"""``python -m loadtests.filter_cost [CONFIG]``, by hand: what the filter before the wheel's Triton costs a stream.

The server of CONFIG (the default engine) under 16 streams of 128 tokens, straight to its gRPC port.
"""

import argparse
import json
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from contract.spec import load_spec
from loadtests.command import ended
from loadtests.family import cpu_s, family_of
from loadtests.fleet import Fleet
from loadtests.lean import Order
from loadtests.served import ROOT, free_ports, served, state_of
from loadtests.timelines import tokens, whole

STREAMS, PROMPT_TOKENS, TOKENS = 16, 64, 128


def main(arguments: Sequence[str]) -> int:
    """Run it and print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, nargs="?", default=ROOT / "configs" / "smollm2-135m.yaml")
    parser.add_argument("--seconds", type=float, default=40.0)
    options = parser.parse_args(arguments)
    data = yaml.safe_load(options.config.read_text())
    ports = dict(zip(("http", "grpc", "metrics", "gateway"), free_ports(4), strict=True))
    config = ROOT / ".conch" / "filter-cost.yaml"
    config.parent.mkdir(exist_ok=True)
    config.write_text(yaml.safe_dump(data | {"ports": ports, "gateway": {"enabled": False}}))
    spec, rng = load_spec(config), random.Random(1)
    prompts = [[rng.randrange(32, 127) for _ in range(PROMPT_TOKENS)] for _ in range(64)]
    requests = [{"prompt": prompt, "max_tokens": TOKENS} for prompt in prompts]
    order = Order("grpc", spec.ports.host, spec.ports.grpc, spec.name, requests, STREAMS, options.seconds)
    with served(config):
        process = family_of(int(state_of(spec)["supervisor_pid"]))["filter"]
        before, began = cpu_s([process]), time.monotonic()
        lines = whole(Fleet(order, 1).wait().timelines)
        took, used = time.monotonic() - began, cpu_s([process]) - before
    responses = sum(len(line.deltas) for line in lines)
    report = {
        "config": options.config.name,
        "streams": STREAMS,
        "cores": os.cpu_count(),
        "tokens_per_s": round(tokens(lines) / took),
        "responses_per_s": round(responses / took),
        "filter_cpu_us_per_response": round(1e6 * used / responses, 1),
        "filter_share_of_machine": round(used / took / (os.cpu_count() or 1), 4),
    }
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    ended(main)
