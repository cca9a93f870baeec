"""``make overload``: what the gateway does at four times its capacity, over the synthetic engine.

Capacity is measured first, by as many users as the deployment admits, each asking anew when answered. Then requests
come at four times that rate, on a schedule that waits for nobody. What counts as good is a whole answer.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from contract.spec import Deployment, load_spec
from loadtests.command import ended, head, kept
from loadtests.family import memory_mib, with_words
from loadtests.served import ROOT, served
from loadtests.sse import request

ANSWER_TOKENS = 200
TIMES = 4
PEAK_S = 30.0
RAMP_S = 5.0  # of each phase, not counted


@dataclass
class Phase:
    """What one phase saw; answers of its first seconds are left out."""

    offered: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)  # "answered", or the status that came instead
    goodput_per_s: float = 0.0
    retry_after_s: list[int] = field(default_factory=list)  # least and most


async def ask(spec: Deployment) -> tuple[str, int | None]:
    """One streamed answer; returns what came of it, and a refusal's Retry-After."""
    body = json.dumps(
        {
            "model": spec.name,
            "prompt": "the tide comes in ",
            "max_tokens": ANSWER_TOKENS,
            "ignore_eos": True,
            "stream": True,
        }
    ).encode()
    try:
        reader, writer = await asyncio.open_connection(spec.gateway.host, spec.ports.gateway)
        try:
            writer.write(request(spec.gateway.host, "/v1/completions", body))
            said = await reader.read(-1)
        finally:
            writer.close()
    except OSError as error:
        return type(error).__name__, None
    status = said[9:12].decode()
    if status == "200":
        return ("answered" if b"data: [DONE]" in said else "broken off"), None
    headers = said.split(b"\r\n\r\n", 1)[0].lower().split(b"\r\n")
    told = [int(line.split(b":")[1]) for line in headers if line.startswith(b"retry-after:")]
    return status, told[0] if told else None


class Count:
    """Takes in outcomes; those before ``begins`` do not count."""

    def __init__(self, begins: float, ends: float) -> None:
        self.phase = Phase()
        self._begins, self._ends = begins, ends

    def take(self, outcome: str, retry_after_s: int | None) -> None:
        """One request ended."""
        self.phase.outcomes[outcome] = self.phase.outcomes.get(outcome, 0) + 1
        if outcome == "answered" and self._begins <= time.monotonic() < self._ends:
            self.phase.goodput_per_s += 1 / (self._ends - self._begins)
        if retry_after_s is not None:
            seen = [*self.phase.retry_after_s, retry_after_s]
            self.phase.retry_after_s = [min(seen), max(seen)]


async def closed(spec: Deployment, users: int, seconds: float) -> Phase:
    """So many users, each asking anew when answered."""
    ends = time.monotonic() + seconds
    count = Count(ends - seconds + RAMP_S, ends)

    async def user() -> None:
        while time.monotonic() < ends:
            count.phase.offered += 1
            count.take(*await ask(spec))

    await asyncio.gather(*(user() for _ in range(users)))
    return count.phase


async def open_(spec: Deployment, rate: float, seconds: float) -> Phase:
    """So many requests a second, whatever becomes of them."""
    begins = time.monotonic()
    count = Count(begins + RAMP_S, begins + seconds)

    async def one() -> None:
        count.take(*await ask(spec))

    async with asyncio.TaskGroup() as requests:
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, begins + number / rate - time.monotonic()))
            count.phase.offered += 1
            requests.create_task(one())
    return count.phase


def gateway_memory_mib() -> float:
    """Resident memory of the gateway of the server that runs."""
    return round(sum(memory_mib({str(each.pid): each for each in with_words("-m", "gateway")()}).values()), 1)


def main(arguments: Sequence[str]) -> int:
    """Measure, write the JSON; 0 when the overload cost nobody but those refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "synthetic.yaml")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "overload.json")
    options = parser.parse_args(arguments)
    spec = load_spec(options.config)
    phases: dict[str, Any] = {}
    report = {**head(), "answer_tokens": ANSWER_TOKENS, "seconds": options.seconds}
    with served(options.config.resolve()), kept(options.out, report, phases):
        users = spec.gateway.max_requests or spec.limits.max_batch_size
        print(f"the capacity: {users} users for {PEAK_S:g} s", flush=True)
        peak = asyncio.run(closed(spec, users, PEAK_S))
        report["peak"] = phases["peak"] = asdict(peak)
        print(f"{phases['peak']}\n{TIMES} times that for {options.seconds:g} s", flush=True)
        before = gateway_memory_mib()
        flood = asyncio.run(open_(spec, TIMES * peak.goodput_per_s, options.seconds))
        report["overload"] = asdict(flood)
        report["goodput_share_of_peak"] = round(flood.goodput_per_s / peak.goodput_per_s, 3)
        report["gateway_memory_mib"] = [before, gateway_memory_mib()]
    print(json.dumps(report, indent=1))
    clean = set(flood.outcomes) <= {"answered", "429"}
    return 0 if clean and flood.goodput_per_s >= 0.9 * peak.goodput_per_s else 1


if __name__ == "__main__":
    ended(main)
