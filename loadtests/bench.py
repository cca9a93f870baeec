"""``make bench``: the raw engine in process against the ensemble over gRPC, HTTP and the gateway, in one run.

At each number of streams they take turns, round by round, so that a slow minute of the machine
slows all of them; figures are medians over the rounds. The raw engine is the very pipeline that the
engine stage loads, with the same threads and limits, stepping in a bare loop.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from contract.errors import ConchError, ServeError
from contract.manifest import engines_root, load_manifest, this_machine
from contract.spec import Deployment, load_spec
from loadtests.served import ROOT, served
from loadtests.transports import Timeline, grpc_stub, http_stream, openai_stream

STREAMS = (1, 4, 16, 32)
PROMPT_TOKENS = 32

Rounds = list[list[Timeline]]


@dataclass(frozen=True)
class Figures:
    """One way of asking, at one number of streams; medians over rounds."""

    tokens_per_s: float
    ttft_ms: float  # median over the round's streams
    itl_ms: float  # median gap between tokens, a delta's gap shared among its tokens
    tokens_per_response: float
    rounds_tokens_per_s: list[float]


def figures(rounds: Rounds) -> Figures:
    """Reduce what the client saw."""
    speeds, ttfts, itls, sizes = [], [], [], []
    for timelines in rounds:
        begun = min(timeline.sent for timeline in timelines)
        ended = max(timeline.deltas[-1][0] for timeline in timelines)
        speeds.append(sum(count for timeline in timelines for _, count in timeline.deltas) / (ended - begun))
        ttfts.append(statistics.median(timeline.deltas[0][0] - timeline.sent for timeline in timelines))
        itls.append(statistics.median(_gaps(timelines)))
        sizes.append(statistics.mean(count for timeline in timelines for _, count in timeline.deltas))
    return Figures(
        tokens_per_s=round(statistics.median(speeds), 1),
        ttft_ms=round(1000 * statistics.median(ttfts), 1),
        itl_ms=round(1000 * statistics.median(itls), 2),
        tokens_per_response=round(statistics.median(sizes), 2),
        rounds_tokens_per_s=[round(speed, 1) for speed in speeds],
    )


def _gaps(timelines: list[Timeline]) -> Iterator[float]:
    for timeline in timelines:
        for (before, _), (after, count) in zip(timeline.deltas, timeline.deltas[1:], strict=False):
            yield from [(after - before) / count] * count


class RawEngine:
    """python_backend.openvino.raw in a process of its own, idle between its rounds."""

    def __init__(self, config: Path, engine: Path) -> None:
        command = [sys.executable, "-m", "python_backend.openvino.raw", str(config), str(engine)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        if self._line() != "ready":
            raise ServeError("the raw engine did not start")

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def answers(self, prompts: list[list[int]], max_tokens: int) -> dict[str, Any]:
        """One round: the ``ids`` of every answer and the ``times``, from the round's start, at which they came.

        Raises:
            ServeError: the engine died.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"prompts": prompts, "max_tokens": max_tokens}) + "\n")
            self._process.stdin.flush()
            said: dict[str, Any] = json.loads(self._line())
        except (OSError, ValueError):
            raise ServeError("the raw engine died") from None
        return said

    def run(self, prompts: list[list[int]], max_tokens: int) -> list[Timeline]:
        """One round."""
        times: list[list[float]] = self.answers(prompts, max_tokens)["times"]
        return [Timeline(0.0, [(at, 1) for at in stamps]) for stamps in times]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def bench(spec: Deployment, raw: RawEngine, rounds: int, max_tokens: int, vocab: int) -> dict[int, dict[str, Figures]]:
    """Every way at every number of streams."""
    rng = random.Random(7)
    results: dict[int, dict[str, Figures]] = {}

    def fresh(streams: int) -> list[list[int]]:
        """Prompts that no prefix cache has seen."""
        return [[rng.randrange(100, vocab) for _ in range(PROMPT_TOKENS)] for _ in range(streams)]

    for streams in STREAMS:
        seen: dict[str, Rounds] = {}
        for number in range(rounds + 1):
            taken = {
                "raw": raw.run(fresh(streams), max_tokens),
                "grpc": asyncio.run(_over_grpc(spec, fresh(streams), max_tokens)),
                "http": asyncio.run(_over_http(spec, fresh(streams), max_tokens)),
                "gateway": asyncio.run(_through_the_gateway(spec, fresh(streams), max_tokens)),
            }
            for way, timelines in taken.items():
                failed = [timeline.error for timeline in timelines if timeline.error]
                if failed:
                    raise ServeError(f"{way} failed: {failed[0]}")
                if number:  # the first round warms up
                    seen.setdefault(way, []).append(timelines)
        results[streams] = {way: figures(timelines) for way, timelines in seen.items()}
    return results


async def _over_grpc(spec: Deployment, prompts: list[list[int]], max_tokens: int) -> list[Timeline]:
    async with grpc_stub(spec.ports) as stub:
        await stub.stream(_inputs([1], 1))  # connects
        return await asyncio.gather(*(stub.stream(_inputs(prompt, max_tokens)) for prompt in prompts))


async def _over_http(spec: Deployment, prompts: list[list[int]], max_tokens: int) -> list[Timeline]:
    return await asyncio.gather(*(http_stream(spec.ports, _inputs(prompt, max_tokens)) for prompt in prompts))


async def _through_the_gateway(spec: Deployment, prompts: list[list[int]], max_tokens: int) -> list[Timeline]:
    def body(prompt: list[int]) -> dict[str, Any]:
        return {
            "model": spec.name,
            "prompt": prompt,
            "max_tokens": max_tokens,
            "temperature": 0,
            "ignore_eos": True,
        }

    return await asyncio.gather(
        *(openai_stream(spec.gateway.host, spec.ports.gateway, body(prompt)) for prompt in prompts)
    )


def _inputs(prompt: list[int], max_tokens: int) -> dict[str, Any]:
    return {"input_ids": prompt, "max_tokens": max_tokens, "stream": True, "ignore_eos": True}


def table(results: dict[int, dict[str, Figures]], base: str = "raw") -> Table:
    """The results for people, each against one of the ways."""
    shown = Table(title="tokens/s, TTFT and ITL: medians", title_justify="left")
    for column in ("streams", "way", "tokens/s", f"× {base}", "TTFT ms", f"+ {base} ms", "ITL ms", "tokens/response"):
        shown.add_column(column, justify="left" if column == "way" else "right")
    for streams, ways in results.items():
        against = ways[base]
        for way, each in ways.items():
            ratio = f"{each.tokens_per_s / against.tokens_per_s:.3f}"
            added = f"{each.ttft_ms - against.ttft_ms:+.1f}"
            row = (way, f"{each.tokens_per_s:.1f}", ratio, f"{each.ttft_ms:.1f}", added, f"{each.itl_ms:.2f}")
            shown.add_row(str(streams), *row, f"{each.tokens_per_response:.2f}")
    return shown


def main() -> None:
    """Run it and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench.json")
    options = parser.parse_args()
    config = options.config.resolve()
    spec = load_spec(config)
    engine = (engines_root(ROOT, spec.name) / "current").resolve()
    manifest = load_manifest(engine)
    with served(config):
        raw = RawEngine(config, engine)
        try:
            results = bench(spec, raw, options.rounds, options.tokens, manifest.vocab_size)
        finally:
            raw.close()
    report = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {**this_machine().model_dump(), "cores": os.cpu_count(), "kernel": platform.release()},
        "engine": manifest.model_dump(exclude={"files", "origin"}),
        "streaming": spec.streaming.model_dump(),
        "prompt_tokens": PROMPT_TOKENS,
        "new_tokens": options.tokens,
        "rounds": options.rounds,
        "results": {streams: {way: asdict(each) for way, each in ways.items()} for streams, ways in results.items()},
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    Console(width=110).print(table(results))


if __name__ == "__main__":
    try:
        main()
    except ConchError as refusal:
        sys.exit(str(refusal))
