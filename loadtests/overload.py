"""``make overload``: what the gateway does at four times its capacity, over the synthetic engine.

Two load tests (loadtests/load). The first finds the capacity: as many users as the deployment admits, each asking anew
when answered. In the second, requests come at four times that rate, whatever becomes of them. What counts as good is a
whole answer.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from contract.checkout import ROOT
from contract.spec import load_spec
from loadtests.command import ended, head, kept
from loadtests.family import memory_mib, with_words
from loadtests.load.__main__ import aimed, parser, reported
from loadtests.load.rows import Row, read_rows
from loadtests.served import served

ANSWER_TOKENS = 200
TIMES = 4
PEAK_S = 30.0
RAMP_S = 5.0  # of each phase, not counted
OUT = ROOT / ".conch" / "loadtests" / "overload"


@dataclass(frozen=True)
class Phase:
    """What one phase saw."""

    offered: int
    outcomes: dict[str, int]
    goodput_per_s: float  # without the answers of its first seconds
    retry_after_s: list[int]  # least and most


def phase(rows: Iterable[Row], seconds: float) -> Phase:
    """Count them."""
    seen = list(rows)
    good = sum(row.answered and RAMP_S <= row.ended < seconds for row in seen)
    told = [row.retry_after_s for row in seen if row.retry_after_s]
    outcomes = dict(Counter("answered" if row.answered else str(row.outcome) for row in seen))
    return Phase(len(seen), outcomes, round(good / (seconds - RAMP_S), 2), [min(told), max(told)] if told else [])


def load(config: Path, seconds: float, *how: str) -> Phase:
    """A load test of whole answers."""
    told = [f"--seconds={seconds}", f"--warm-up={RAMP_S}", "--cool-down=0", "--canary-every=0", "--prompt-tokens=16"]
    told += ["--transport=openai-text", f"--answer-tokens={ANSWER_TOKENS}", '--extra={"ignore_eos": true}']
    options = parser().parse_args([str(config), *told, f"--out={OUT}", *how])
    aimed(options)
    OUT.mkdir(parents=True, exist_ok=True)
    reported(options, [], OUT / "locust.log")
    return phase(read_rows(OUT / "rows.jsonl"), seconds)


def gateway_memory_mib(config: Path) -> float:
    """Resident memory of the gateway of the server that runs."""
    return round(sum(memory_mib({str(each.pid): each for each in with_words("gateway", str(config))()}).values()), 1)


def main(arguments: Sequence[str]) -> int:
    """Measure, write the JSON; 0 when the overload cost nobody but those refused."""
    parsed = argparse.ArgumentParser(description=__doc__)
    parsed.add_argument("--config", type=Path, default=ROOT / "configs" / "synthetic.yaml")
    parsed.add_argument("--seconds", type=float, default=120)
    parsed.add_argument("--out", type=Path, default=ROOT / "docs" / "overload.json")
    options = parsed.parse_args(arguments)
    config = options.config.resolve()
    spec = load_spec(config)
    phases: dict[str, Any] = {}
    report = {**head(), "answer_tokens": ANSWER_TOKENS, "seconds": options.seconds}
    with served(config), kept(options.out, report, phases):
        users = spec.gateway.max_requests or spec.limits.max_batch_size
        print(f"the capacity: {users} users for {PEAK_S:g} s", flush=True)
        peak = load(config, PEAK_S, "--loop=closed", f"--users={users}")
        report["peak"] = phases["peak"] = asdict(peak)
        print(f"{phases['peak']}\n{TIMES} times that for {options.seconds:g} s", flush=True)
        before = gateway_memory_mib(config)
        flood = load(config, options.seconds, "--arrivals=constant", f"--rate={TIMES * peak.goodput_per_s}")
        report["overload"] = asdict(flood)
        report["goodput_share_of_peak"] = round(flood.goodput_per_s / peak.goodput_per_s, 3)
        report["gateway_memory_mib"] = [before, gateway_memory_mib(config)]
    print(json.dumps(report, indent=1))
    clean = set(flood.outcomes) <= {"answered", "429"}
    return 0 if clean and flood.goodput_per_s >= 0.9 * peak.goodput_per_s else 1


if __name__ == "__main__":
    ended(main)
