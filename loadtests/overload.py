"""``make overload``: what the gateway does at four times its capacity, over the synthetic engine.

Capacity is measured first, by as many users as the deployment admits, each asking anew when answered. Then requests
come at four times that rate, on a schedule that waits for nobody. What counts as good is a whole answer.
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
_SHOW_S = 10.0


@dataclass(frozen=True)
class Answer:
    """What came of one request."""

    outcome: str  # "answered", or the status that came instead
    at: float  # time.monotonic()
    retry_after_s: int | None = None  # of a refusal


@dataclass(frozen=True)
class Phase:
    """What one phase saw."""

    offered: int
    outcomes: dict[str, int]
    goodput_per_s: float  # without the answers of its first seconds
    retry_after_s: list[int]  # least and most


def phase(answers: Sequence[Answer], begins: float, seconds: float) -> Phase:
    """Count them."""
    good = sum(each.outcome == "answered" and RAMP_S <= each.at - begins < seconds for each in answers)
    told = [each.retry_after_s for each in answers if each.retry_after_s is not None]
    outcomes = dict(Counter(each.outcome for each in answers))
    return Phase(len(answers), outcomes, good / (seconds - RAMP_S), [min(told), max(told)] if told else [])


async def ask(spec: Deployment) -> Answer:
    """One streamed answer, read as a whole: the client is to cost next to nothing."""
    asked = {"model": spec.name, "prompt": "the tide comes in ", "max_tokens": ANSWER_TOKENS}
    body = json.dumps({**asked, "ignore_eos": True, "stream": True}).encode()
    try:
        reader, writer = await asyncio.open_connection(spec.gateway.host, spec.ports.gateway)
        try:
            writer.write(request(spec.gateway.host, "/v1/completions", body))
            said = await reader.read(-1)
        finally:
            writer.close()
    except OSError as error:
        return Answer(type(error).__name__, time.monotonic())
    status, now = said[9:12].decode(), time.monotonic()
    if status == "200":
        return Answer("answered" if b"data: [DONE]" in said else "broken off", now)
    headers = said.split(b"\r\n\r\n", 1)[0].lower().split(b"\r\n")
    told = [int(line.split(b":")[1]) for line in headers if line.startswith(b"retry-after:")]
    return Answer(status, now, told[0] if told else None)


async def closed(spec: Deployment, users: int, seconds: float) -> Phase:
    """So many users, each asking anew when answered."""
    begins = time.monotonic()
    answers: list[Answer] = []

    async def user() -> None:
        while time.monotonic() < begins + seconds:
            answers.append(await ask(spec))

    await asyncio.gather(*(user() for _ in range(users)))
    return phase(answers, begins, seconds)


async def open_(spec: Deployment, rate: float, seconds: float) -> Phase:
    """So many requests a second, whatever becomes of them."""
    begins = time.monotonic()
    async with asyncio.TaskGroup() as requests:
        tasks = []
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, begins + number / rate - time.monotonic()))
            tasks.append(requests.create_task(ask(spec)))
            if number % int(_SHOW_S * rate) == 0:
                print(f"{number / rate:4.0f} s: {number} requests offered", flush=True)
    return phase([task.result() for task in tasks], begins, seconds)


def gateway_memory_mib(config: Path) -> float:
    """Resident memory of the gateway of the server that runs."""
    return round(sum(memory_mib({str(each.pid): each for each in with_words("gateway", str(config))()}).values()), 1)


def main(arguments: Sequence[str]) -> int:
    """Measure, write the JSON; 0 when the overload cost nobody but those refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "synthetic.yaml")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "overload.json")
    options = parser.parse_args(arguments)
    config = options.config.resolve()
    spec = load_spec(config)
    phases: dict[str, Any] = {}
    report = {**head(), "answer_tokens": ANSWER_TOKENS, "seconds": options.seconds}
    with served(config), kept(options.out, report, phases):
        users = spec.gateway.max_requests or spec.limits.max_batch_size
        print(f"the capacity: {users} users for {PEAK_S:g} s", flush=True)
        peak = asyncio.run(closed(spec, users, PEAK_S))
        report["peak"] = phases["peak"] = asdict(peak)
        print(f"{phases['peak']}\n{TIMES} times that for {options.seconds:g} s", flush=True)
        before = gateway_memory_mib(config)
        flood = asyncio.run(open_(spec, TIMES * peak.goodput_per_s, options.seconds))
        report["overload"] = asdict(flood)
        report["goodput_share_of_peak"] = round(flood.goodput_per_s / peak.goodput_per_s, 3)
        report["gateway_memory_mib"] = [before, gateway_memory_mib(config)]
    print(json.dumps(report, indent=1))
    clean = set(flood.outcomes) <= {"answered", "429"}
    return 0 if clean and flood.goodput_per_s >= 0.9 * peak.goodput_per_s else 1


if __name__ == "__main__":
    ended(main)
