"""Is the ensemble as fast as vLLM alone? On one machine, the same weights, prompts and client, in one run, one JSON:

- ``offline``: vLLM's ``LLM.generate``, which has neither server nor client;
- ``serve``: ``vllm serve`` and its OpenAI stream;
- ``ensemble``: ours over gRPC, and ``gateway``: ours over the OpenAI stream, taking turns;
- ``beside``: serve, ensemble and gateway taking turns, both engines on the GPU at once, each with its own memory;
- ``soak``: many streams with cancels over ours, for leaks (loadtests/gpu_soak.py);
- ``same-text``: whether all give the same greedy text (loadtests/gpu_texts.py).

One large model may fill a GPU, so the engines of all phases but ``beside`` come one after the other; ``--phases`` says
which, in which order, and a phase named twice shows how far the machine drifts. Ours runs on while the next phase
wants it too. Every phase's result is on disk when it ends.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil

from contract.errors import ConchError, ServeError
from contract.manifest import this_machine
from contract.spec import Deployment
from loadtests.fleet import Fleet, Load
from loadtests.gpu_deployment import deployment
from loadtests.gpu_soak import soak
from loadtests.gpu_texts import same_text
from loadtests.lean import Order
from loadtests.meter import Meter, family
from loadtests.pipeline import itl, quantiles
from loadtests.served import served
from loadtests.shapes import SHAPES
from loadtests.vllm_alone import VLLM, offline, vllm_serve

PHASES = ("ensemble", "serve", "offline", "beside", "soak", "same-text")
OURS = ("ensemble", "beside", "soak")

Roots = Callable[[], list[psutil.Process]]


class Bench:
    """One model, and everything measured on it."""

    def __init__(self, options: argparse.Namespace, spec: Deployment, config: Path, engine: Path, vocab: int) -> None:
        self.options, self.spec, self.config, self.engine, self._vocab = options, spec, config, engine, vocab
        self.results: list[dict[str, Any]] = []
        self._server, self._server_pid = ExitStack(), 0

    def ours(self) -> int:
        """Our server's process id; started unless an earlier phase left it running."""
        if not self._server_pid:
            self._server_pid = self._server.enter_context(served(self.config))
        return self._server_pid

    def close(self) -> None:
        """Stop our server: its part of the GPU is free again."""
        self._server_pid = 0
        self._server.close()

    def prompts(self, way: str, streams: int, number: int) -> list[dict[str, Any]]:
        """The same for every way, but for the gateway: its engine has seen the ensemble's, and caches prefixes."""
        rng = random.Random(f"{way == 'gateway'}-{streams}-{number}")
        return [
            {
                "prompt": [rng.randrange(300, self._vocab - 300) for _ in range(self.options.input)],
                "max_tokens": self.options.output,
            }
            for _ in range(streams)
        ]

    def load(self, way: str, streams: int, number: int) -> Load:
        """One burst of so many streams."""
        ports = self.spec.ports
        requests = self.prompts(way, streams, number)
        order = {
            "ensemble": lambda: Order("grpc", ports.host, ports.grpc, self.spec.name, requests),
            "gateway": lambda: Order("openai", ports.host, ports.gateway, self.spec.name, requests),
            "serve": lambda: Order("openai", "127.0.0.1", self.options.port, "peer", requests),
        }[way]()
        load = Fleet(order, self.options.clients).wait()
        failed = [each.error for each in load.timelines if each.error]
        if failed:
            raise ServeError(f"{way}: {len(failed)} of {streams} requests failed: {failed[0]}")
        return load

    def measure(self, ways: dict[str, Roots]) -> None:
        """Every way, by the processes that serve it, at every number of streams, turn by turn."""
        for way in ways:
            self.load(way, min(64, max(self.options.streams)), -1)  # warms up
        for streams in self.options.streams:
            for number in range(self.options.rounds):
                for way, roots in ways.items():
                    with Meter(roots) as meter:
                        load = self.load(way, streams, number)
                    self._note(way, streams, load, meter.report)

    def _note(self, way: str, streams: int, load: Load, meter: dict[str, Any]) -> None:
        lines = load.timelines
        took = max(each.deltas[-1][0] for each in lines) - min(each.sent for each in lines)
        tokens = sum(count for each in lines for _, count in each.deltas)
        self._keep(
            {
                "way": way,
                "streams": streams,
                "tokens_per_s": round(tokens / took, 1),
                "tokens": tokens,
                "tokens_per_response": round(tokens / sum(len(each.deltas) for each in lines), 2),
                "ttft_ms": quantiles([each.deltas[0][0] - each.sent for each in lines]),
                **itl(lines),
                "client_cpu_s": round(load.cpu_s, 2),
                **meter,
            }
        )

    def _keep(self, result: dict[str, Any]) -> None:
        self.results.append(result)
        brief = {
            key: result[key]
            for key in ("way", "streams", "tokens_per_s", "ttft_ms", "itl_ms", "gap_ms", "cores_used")
            if key in result
        }
        print(time.strftime("%H:%M:%S"), json.dumps(brief), flush=True)

    def ensemble(self) -> None:
        """Ours: gRPC and gateway."""
        roots = self._our_roots()
        self.measure({"ensemble": roots, "gateway": roots})

    def _our_roots(self) -> Roots:
        server_pid, gateway = self.ours(), family("-m", "gateway", str(self.config))
        return lambda: [psutil.Process(server_pid), *gateway()]

    def serve(self) -> None:
        """vllm serve."""
        with vllm_serve(self.engine, self.spec, self.options.port) as process:
            self.measure({"serve": lambda: [psutil.Process(process.pid)]})

    def beside(self) -> None:
        """vllm serve and ours: what the machine does to one, it does to the others."""
        roots = self._our_roots()
        with vllm_serve(self.engine, self.spec, self.options.port, self.options.serve_memory) as process:
            serve: Roots = lambda: [psutil.Process(process.pid)]  # noqa: E731
            self.measure({"serve": serve, "ensemble": roots, "gateway": roots})

    def offline(self) -> None:
        """LLM.generate."""
        with offline(self.engine, self.spec) as ask:
            ask([each["prompt"] for each in self.prompts("offline", 8, -1)], self.options.output)
            for streams in self.options.streams:
                for number in range(self.options.rounds):
                    requests = self.prompts("offline", streams, number)
                    with Meter(family("-m", "python_backend.vllm.raw")) as meter:
                        answer = ask([each["prompt"] for each in requests], self.options.output)
                    tokens = sum(map(len, answer["ids"]))
                    speed = round(tokens / answer["seconds"], 1)
                    self._keep(
                        {"way": "offline", "streams": streams, "tokens_per_s": speed, "tokens": tokens, **meter.report}
                    )

    def soak(self) -> None:
        """Streams with cancels for minutes."""
        requests = self.prompts("soak", 2048, 0)
        self._keep(soak(self.spec, self.config, self.ours(), requests, self.options))

    def same_text(self) -> None:
        """Every way's greedy text."""
        self._keep(same_text(served(self.config), self.engine, self.spec, self.options.port))


def _machine() -> dict[str, Any]:
    gpu = ""
    with suppress(OSError):
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        gpu = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    about = "import vllm, torch; print(vllm.__version__, torch.__version__)"
    versions = subprocess.run([VLLM, "-c", about], capture_output=True, text=True, check=False).stdout.split()
    return {
        **this_machine().model_dump(),
        "cores": os.cpu_count(),
        "gpu": gpu,
        "vllm": versions[-2] if len(versions) > 1 else "",
        "torch": versions[-1] if versions else "",
    }


def main() -> int:
    """Run the phases; what was measured is written even when a later phase fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--shape", choices=sorted(SHAPES), help="random weights of this shape")
    which.add_argument("--checkpoint", type=Path, help="a Hugging Face checkpoint")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=["ensemble", "serve", "offline"])
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16, 64, 256, 512])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--input", type=int, default=512)
    parser.add_argument("--output", type=int, default=256)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--batched-tokens", type=int, default=8192)
    parser.add_argument("--memory", type=float, default=0.9, help="the share of the GPU's that an engine may take")
    parser.add_argument("--serve-memory", type=float, default=0.34, help="vllm serve's in phase beside")
    parser.add_argument("--responses", type=int, default=0, help="streaming.max_responses_per_s")
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--ports", type=int, default=8000, help="the first of the deployment's four")
    parser.add_argument("--port", type=int, default=9100, help="of vllm serve")
    parser.add_argument("--soak-seconds", type=float, default=600)
    parser.add_argument("--soak-streams", type=int, default=256)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    spec, config, engine, vocab = deployment(options)
    bench = Bench(options, spec, config, engine, vocab)
    report: dict[str, Any] = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": _machine(),
        "options": {name: str(each) if isinstance(each, Path) else each for name, each in vars(options).items()},
        "results": bench.results,
        "failures": [],
    }
    for phase in options.phases:
        begun = time.monotonic()
        print(time.strftime("%H:%M:%S"), phase, flush=True)
        try:
            if phase not in OURS:
                bench.close()
            {
                "ensemble": bench.ensemble,
                "serve": bench.serve,
                "offline": bench.offline,
                "beside": bench.beside,
                "soak": bench.soak,
                "same-text": bench.same_text,
            }[phase]()
        except (ConchError, psutil.Error, IndexError, ValueError) as failure:
            report["failures"].append(f"{phase}: {failure}")
            print(f"{phase} failed: {failure}", file=sys.stderr, flush=True)
        print(f"{phase}: {time.monotonic() - begun:.0f} s", flush=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    bench.close()
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConchError as refusal:
        sys.exit(str(refusal))
