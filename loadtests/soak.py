"""Ten minutes of 64 gRPC streams with 20 % cancels over the synthetic engine: nothing crashes, leaks or lies.

``make soak``. Every text is checked against what the echo must be; at the end no request may be left
active and the stages' memory must have stopped growing.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from contract.errors import ConchError
from contract.manifest import this_machine
from contract.spec import Deployment, load_spec
from loadtests.meter import gauge
from loadtests.served import ROOT, served
from loadtests.transports import Stub, Timeline, grpc_stub

CANCEL_SHARE = 0.2
LONGEST = 256  # tokens


@dataclass
class Tally:
    """What happened so far."""

    complete: int = 0
    cancelled: int = 0
    wrong_text: int = 0
    tokens: int = 0
    responses: int = 0
    errors: list[str] = field(default_factory=list)


async def soak(spec: Deployment, seconds: float, streams: int, cancel_share: float, seed: int) -> Tally:
    """Load the server for so long; each stream sends its next request when the last one ended."""
    tally = Tally()
    until = time.monotonic() + seconds
    async with grpc_stub(spec.ports) as first, grpc_stub(spec.ports) as second:
        users = [
            _user(stub, random.Random(f"{seed}-{number}"), until, cancel_share, tally)
            for number, stub in zip(range(streams), itertools.cycle((first, second)), strict=False)
        ]
        await asyncio.gather(_report(until, tally), *users)
    return tally


async def _user(stub: Stub, rng: random.Random, until: float, cancel_share: float, tally: Tally) -> None:
    while time.monotonic() < until:
        text = f"stream {rng.randint(0, 9999)} of the soak says: héllo 🌊. " * rng.randint(1, 8)
        cancels = rng.random() < cancel_share
        tokens = LONGEST if cancels else rng.randint(16, LONGEST)  # one that cancels must not have ended before
        cancel_after = rng.randint(0, 3) if cancels else None
        inputs = {"text_input": text, "max_tokens": tokens, "stream": True}
        _count(tally, await stub.stream(inputs, cancel_after), text, tokens)


def _count(tally: Tally, timeline: Timeline, text: str, tokens: int) -> None:
    tally.responses += len(timeline.deltas)
    tally.tokens += sum(count for _, count in timeline.deltas)
    if timeline.error:
        tally.errors.append(timeline.error)
    elif timeline.finish_reason == "cancelled":
        tally.cancelled += 1
    else:
        tally.complete += 1
        echoed = itertools.islice(itertools.cycle(text.encode()), tokens)
        tally.wrong_text += timeline.text != bytes(echoed).decode(errors="replace")


async def _report(until: float, tally: Tally) -> None:
    while (left := until - time.monotonic()) > 0:
        await asyncio.sleep(min(20, left))
        print(
            f"{max(0, left):4.0f} s left: {tally.complete} complete, {tally.cancelled} cancelled, "
            f"{len(tally.errors)} errors, {tally.tokens} tokens in {tally.responses} responses",
            flush=True,
        )


def stage_memory(server_pid: int) -> dict[str, float]:
    """Resident memory in MiB of the server and each of its stages."""
    server = psutil.Process(server_pid)
    memory = {"tritonserver": server.memory_info().rss / 2**20}
    for stub in server.children(recursive=True):
        stage = next((part.split("/")[-3] for part in stub.cmdline() if part.endswith("/1/model.py")), stub.name())
        memory[stage] = stub.memory_info().rss / 2**20
    return {name: round(rss, 1) for name, rss in memory.items()}


def active(spec: Deployment) -> float:
    """The conch_requests_active gauge."""
    return gauge(f"http://{spec.ports.host}:{spec.ports.metrics}/metrics", "conch_requests_active")


def main() -> int:
    """Soak a server of its own; 0 when it came through."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "synthetic.yaml")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "soak.json")
    options = parser.parse_args()
    spec = load_spec(options.config)
    with served(options.config.resolve()) as server_pid:
        asyncio.run(soak(spec, options.seconds / 10, options.streams, CANCEL_SHARE, seed=1))  # caches fill
        before = stage_memory(server_pid)
        tally = asyncio.run(soak(spec, options.seconds, options.streams, CANCEL_SHARE, seed=2))
        after = stage_memory(server_pid)
        time.sleep(2)
        left = active(spec)
    growth = {name: round(after[name] - before[name], 1) for name in after}
    report = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {**this_machine().model_dump(), "cores": os.cpu_count()},
        "seconds": options.seconds,
        "streams": options.streams,
        "cancel_share": CANCEL_SHARE,
        **asdict(tally),
        "active_after": left,
        "memory_mib": after,
        "memory_growth_mib": growth,
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))
    return 1 if tally.errors or tally.wrong_text or left else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConchError as refusal:
        sys.exit(str(refusal))
