"""``make bench-priority``: the first token of an interactive key, alone and under a flood of a batch key's requests.

The default deployment. One user of the interactive key asks at moments of chance; in every other phase the batch key
has as many users as the batch and the queue hold, each asking anew when answered, or when told to come back. Each share
that the batch key may have is measured with a server of its own, the last one without a limit: what the flood then gets
more is what the others cost.
"""

import argparse
import asyncio
import json
import os
import random
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contract.address import free_ports
from contract.checkout import ROOT
from contract.quota import Quota
from contract.sections import Gateway
from contract.spec import Deployment, load_spec, write_spec
from loadtests.command import ended, head, kept
from loadtests.fleet import Fleet, Requests, fresh
from loadtests.lean import Order, Timeline, run
from loadtests.served import served
from loadtests.timelines import in_window, quantiles, ttft, whole

INTERACTIVE, BATCH = "interactive", "batch"
KEYS = {name: f"sk-{secrets.token_hex(16)}" for name in (INTERACTIVE, BATCH)}
PROMPT_TOKENS = {INTERACTIVE: 256, BATCH: 128}
ANSWER_TOKENS = {INTERACTIVE: 32, BATCH: 256}
PAUSE_S = 0.3  # at most, between two
RAMP_S = 6.0  # of a flood, not counted
WITHIN = 1.5  # times the quiet TTFT p95
_PORTS = ("http", "grpc", "metrics", "gateway")
_IDS = range(32, 127)


def order(spec: Deployment, name: str, requests: Requests, **more: Any) -> Order:
    """What one key's users send."""
    return Order("openai", spec.gateway.host, spec.ports.gateway, spec.name, requests, key=KEYS[name], **more)


def asked(spec: Deployment, rng: random.Random, until: float) -> list[Timeline]:
    """The interactive user's requests, one after the other, until a time."""
    lines: list[Timeline] = []
    while time.time() < until:
        time.sleep(rng.random() * PAUSE_S)
        requests = fresh(rng, _IDS, 1, PROMPT_TOKENS[INTERACTIVE], ANSWER_TOKENS[INTERACTIVE])
        lines += asyncio.run(run(order(spec, INTERACTIVE, requests)))
    return lines


def flooded(spec: Deployment, rng: random.Random, seconds: float) -> tuple[list[Timeline], float]:
    """The same under a flood, and how many tokens a second the flood got."""
    users = spec.limits.max_batch_size + spec.gateway.max_queue_size
    requests = fresh(rng, _IDS, 6 * users, PROMPT_TOKENS[BATCH], ANSWER_TOKENS[BATCH])
    flood = Fleet(order(spec, BATCH, requests, streams=users, seconds=RAMP_S + seconds), 1)
    begins = flood.start_at + RAMP_S
    time.sleep(max(0.0, begins - time.time()))
    lines = asked(spec, rng, begins + seconds)
    tokens, _ = in_window(flood.wait().timelines, begins, begins + seconds)
    return lines, tokens / seconds


def measure(spec: Deployment, rounds: int, seconds: float) -> dict[str, Any]:
    """Quiet and flooded phases in turns."""
    rng = random.Random(rounds)
    asked(spec, rng, time.time() + RAMP_S)  # warms up
    refused = 0
    quiet: list[Timeline] = []
    loud: list[Timeline] = []
    speeds: list[float] = []
    for _ in range(rounds):
        quiet += whole(asked(spec, rng, time.time() + seconds), INTERACTIVE)
        lines, speed = flooded(spec, rng, seconds)
        answered = [line for line in lines if not line.error]
        refused += len(lines) - len(answered)
        loud, speeds = loud + answered, [*speeds, speed]
    alone, beside = quantiles(ttft(quiet)), quantiles(ttft(loud)) if loud else {}
    return {
        "batch_share": spec.gateway.batch_share,
        "answers": [len(quiet), len(loud)],
        "refused": refused,
        "quiet_ttft_ms": alone,
        "flooded_ttft_ms": beside,
        "p95_ratio": round(beside["p95"] / alone["p95"], 2) if loud else None,
        "batch_tokens_per_s": round(sum(speeds) / len(speeds), 1),
    }


def config_of(base: Path, share: float) -> Path:
    """The deployment with a batch key, on ports of its own."""
    spec = load_spec(base)
    section = {"quotas": {BATCH: Quota(priority="batch")}, "batch_share": share}
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    changed = {"gateway": spec.gateway.model_copy(update=section), "ports": spec.ports.model_copy(update=ports)}
    config = ROOT / ".conch" / "bench-priority.yaml"
    config.parent.mkdir(exist_ok=True)
    write_spec(config, spec.model_copy(update=changed))
    return config


def main(arguments: Sequence[str]) -> int:
    """Measure, write the JSON; 0 when the first share keeps the interactive key's TTFT."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "smollm2-135m.yaml")
    parser.add_argument("--shares", type=float, nargs="+", default=[Gateway().batch_share, 1.0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "priority.json")
    options = parser.parse_args(arguments)
    os.environ["CONCH_API_KEYS"] = ",".join(f"{name}:{key}" for name, key in KEYS.items())
    results: list[dict[str, Any]] = []
    sizes = {"prompt_tokens": PROMPT_TOKENS, "answer_tokens": ANSWER_TOKENS}
    report = {**head(), "config": options.config.name, **sizes, "results": results}
    with kept(options.out, report, results):
        for share in options.shares:
            config = config_of(options.config.resolve(), share)
            with served(config):
                results.append(measure(load_spec(config), options.rounds, options.seconds))
            print(json.dumps(results[-1], indent=1), flush=True)
    first = results[0]
    return 0 if first["answers"][1] and not first["refused"] and first["p95_ratio"] <= WITHIN else 1


if __name__ == "__main__":
    ended(main)
