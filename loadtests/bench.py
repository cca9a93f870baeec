"""``make bench``: the raw engine in process against the ensemble over gRPC and HTTP, its engine stage, the gateway.

At each number of streams they take turns, round by round, so that a slow minute of the machine
slows all of them; figures are medians over the rounds. The raw engine is the very pipeline that the
engine stage loads, with the same threads and limits, stepping in a bare loop. Ctrl-C ends a run and keeps what it has.
"""

import argparse
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from contract.manifest import Manifest, engines_root, load_manifest
from contract.spec import load_spec
from contract.tensors import ENSEMBLE_ALIAS, stage_names
from loadtests.command import ended, head, kept
from loadtests.fleet import Asker, asker, fresh
from loadtests.lean import Timeline
from loadtests.raw_engine import RawEngine
from loadtests.served import ROOT, served
from loadtests.timelines import itl, speed, tokens_per_response, ttft, whole

STREAMS = (1, 4, 16, 32)
PROMPT_TOKENS = 32


def figures(rounds: Sequence[list[Timeline]]) -> dict[str, Any]:
    """One way of asking, at one number of streams: medians over rounds, of a round's streams and of its tokens."""
    speeds = [speed(lines) for lines in rounds]
    return {
        "tokens_per_s": round(median(speeds), 1),
        "ttft_ms": round(1000 * median(median(ttft(lines)) for lines in rounds), 1),
        "itl_ms": round(1000 * median(median(itl(lines)) for lines in rounds), 2),
        "tokens_per_response": round(median(tokens_per_response(lines) for lines in rounds), 2),
        "rounds_tokens_per_s": [round(each, 1) for each in speeds],
    }


def bench(ways: Mapping[str, Asker], manifest: Manifest, options: argparse.Namespace, more: dict[str, Any]) -> None:
    """Every way at every number of streams, each round shown as it ends; the JSON, and a table."""
    rng, ids = random.Random(7), range(100, manifest.vocab_size)
    results: dict[int, dict[str, Any]] = {}
    report = {
        **head(),
        "engine": manifest.model_dump(exclude={"files", "origin"}),
        **more,
        "prompt_tokens": PROMPT_TOKENS,
        "new_tokens": options.tokens,
        "rounds": options.rounds,
        "results": results,
    }
    with kept(options.out, report, results):
        for streams in options.streams:
            seen: dict[str, list[list[Timeline]]] = {way: [] for way in ways}
            for number in range(options.rounds + 1):  # the first warms up
                speeds = []
                for way, ask in ways.items():
                    requests = fresh(rng, ids, streams, PROMPT_TOKENS, options.tokens)
                    lines = whole(ask(requests, streams), way)
                    speeds.append(f"{way} {speed(lines):.1f}")
                    if number:
                        seen[way].append(lines)
                        results.setdefault(streams, {})[way] = figures(seen[way])
                of = f"round {number} of {options.rounds}" if number else "warm-up"
                print(f"{time.strftime('%H:%M:%S')} {streams} streams, {of}, tokens/s: {', '.join(speeds)}", flush=True)
    Console(width=110).print(table(results, next(iter(ways))))


def table(results: Mapping[int, Mapping[str, Mapping[str, Any]]], base: str) -> Table:
    """The results for people, each against one of the ways."""
    shown = Table(title="tokens/s, TTFT and ITL: medians", title_justify="left")
    for column in ("streams", "way", "tokens/s", f"× {base}", "TTFT ms", f"+ {base} ms", "ITL ms", "tokens/response"):
        shown.add_column(column, justify="left" if column == "way" else "right")
    for streams, ways in results.items():
        against = ways[base]
        for way, each in ways.items():
            ratio = f"{each['tokens_per_s'] / against['tokens_per_s']:.3f}"
            added = f"{each['ttft_ms'] - against['ttft_ms']:+.1f}"
            row = (way, f"{each['tokens_per_s']:.1f}", ratio, f"{each['ttft_ms']:.1f}", added, f"{each['itl_ms']:.2f}")
            shown.add_row(str(streams), *row, f"{each['tokens_per_response']:.2f}")
    return shown


def parser(description: str | None, rounds: int, out: str) -> argparse.ArgumentParser:
    """The command line of what takes turns."""
    parsed = argparse.ArgumentParser(description=description)
    parsed.add_argument("config", type=Path)
    parsed.add_argument("--rounds", type=int, default=rounds)
    parsed.add_argument("--streams", type=int, nargs="+", default=STREAMS)
    parsed.add_argument("--tokens", type=int, default=128)
    parsed.add_argument("--out", type=Path, default=ROOT / "docs" / out)
    return parsed


def main(arguments: Sequence[str]) -> int:
    """Run it and write the JSON."""
    options = parser(__doc__, 5, "bench.json").parse_args(arguments)
    config = options.config.resolve()
    spec = load_spec(config)
    engine = (engines_root(ROOT, spec.name) / "current").resolve()
    manifest = load_manifest(engine)
    ports = spec.ports
    with served(config), closing(RawEngine(config, engine)) as raw:
        ways = {
            "raw": raw.ask,
            "grpc": asker("grpc", ports.host, ports.grpc, ENSEMBLE_ALIAS, connected=True),
            "direct": asker("grpc", ports.host, ports.grpc, stage_names(spec.name)[1], connected=True),
            "http": asker("http", ports.host, ports.http, ENSEMBLE_ALIAS),
            "gateway": asker("openai", spec.gateway.host, ports.gateway, spec.name),
        }
        bench(ways, manifest, options, {"streaming": spec.streaming.model_dump()})
    return 0


if __name__ == "__main__":
    ended(main)
