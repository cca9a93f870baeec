"""Is the ensemble as fast as vLLM alone? On one machine, the same weights, prompts and client, in one run, one JSON:

- ``offline``: vLLM's ``LLM.generate``, which has neither server nor client;
- ``serve``: ``vllm serve`` and its OpenAI stream;
- ``ensemble``: ours over gRPC, and ``gateway``: ours over the OpenAI stream, taking turns;
- ``soak``: many streams with cancels over the ensemble, for leaks.

One large model fills a GPU, so the three engines come one after the other; ``--phases`` says which, in which
order, and a phase named twice shows how far the machine drifts. Every phase's result is on disk when it ends.
"""

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import yaml
from tokenizers import Tokenizer

from contract.errors import ConchError, ServeError
from contract.manifest import MANIFEST, Manifest, engines_root, now, this_machine
from contract.spec import Deployment, load_spec
from loadtests.fleet import Fleet, Load
from loadtests.lean import Order
from loadtests.pipeline import itl, quantiles
from loadtests.served import ROOT, served
from loadtests.shapes import SHAPES, write_shape
from loadtests.soak import active

VLLM = ROOT / ".venv-vllm" / "bin" / "python"
START_S = 1200.0
PHASES = ("ensemble", "serve", "offline", "soak", "same-text")
TEXTS = (
    "The tide comes in",
    "A short history of lighthouses:",
    "def fibonacci(n):",
    "The three states of water are",
    "Dear Sir or Madam,",
    "Once upon a time, in a village by the sea,",
)


class Meter:
    """What the GPU and the processes do while a load runs."""

    def __init__(self, roots: Callable[[], list[psutil.Process]]) -> None:
        self._roots = roots
        self._gpu: list[list[float]] = []
        self._stop = threading.Event()

    def __enter__(self) -> "Meter":
        self._begun, self._before = time.time(), _cpu_s(self._roots())
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        took = time.time() - self._begun
        after = _cpu_s(self._roots())
        self.report: dict[str, Any] = {
            "cores_used": {
                name: round((used - self._before.get(name, 0.0)) / took, 2)
                for name, used in sorted(after.items())
                if used - self._before.get(name, 0.0) > 0.02 * took
            }
        }
        if self._gpu:
            names = ("gpu_utilisation_percent", "gpu_power_w", "gpu_memory_mib")
            self.report |= {
                name: round(statistics.mean(each))
                for name, each in zip(names, zip(*self._gpu, strict=True), strict=True)
            }

    def _watch(self) -> None:
        query = ["nvidia-smi", "--query-gpu=utilization.gpu,power.draw,memory.used", "--format=csv,noheader,nounits"]
        while not self._stop.wait(0.5):
            with suppress(OSError, ValueError):
                said = subprocess.run(query, capture_output=True, text=True, check=False).stdout
                self._gpu.append([float(each) for each in said.splitlines()[0].split(",")] if said else [])
        self._gpu = [each for each in self._gpu if len(each) == 3]


def _cpu_s(roots: list[psutil.Process]) -> dict[str, float]:
    """CPU time by what a process is, over the roots' whole trees."""
    used: dict[str, float] = {}
    for root in roots:
        with suppress(psutil.Error):
            for process in [root, *root.children(recursive=True)]:
                with suppress(psutil.Error):
                    name = _name(process)
                    used[name] = used.get(name, 0.0) + sum(process.cpu_times()[:2])
    return used


def _name(process: psutil.Process) -> str:
    command = process.cmdline()
    stage = next((part.split("/")[-3] for part in command if part.endswith("/1/model.py")), "")
    if stage:
        return stage.rpartition("_")[2]
    for module in (
        "python_backend.worker",
        "python_backend.vllm.raw",
        "vllm.entrypoints.cli.main",
        "loadtests.lean",
        "gateway",
    ):
        if module in command:
            return module.rpartition(".")[2]
    return (command[0] if len(command) == 1 else process.name()).split("/")[-1].strip()


def _family(*words: str) -> Callable[[], list[psutil.Process]]:
    """The processes of this machine whose command line has all of these words."""

    def find() -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if all(word in process.cmdline() for word in words):
                    found.append(process)
        return found

    return find


class Bench:
    """One model, and everything measured on it."""

    def __init__(self, options: argparse.Namespace, spec: Deployment, config: Path, engine: Path, vocab: int) -> None:
        self.options, self.spec, self.config, self.engine, self._vocab = options, spec, config, engine, vocab
        self.results: list[dict[str, Any]] = []

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

    def measure(self, ways: tuple[str, ...], roots: Callable[[], list[psutil.Process]]) -> None:
        """Every way at every number of streams, turn by turn."""
        for way in ways:
            self.load(way, min(64, max(self.options.streams)), -1)  # warms up
        for streams in self.options.streams:
            for number in range(self.options.rounds):
                for way in ways:
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
        with served(self.config) as server_pid:
            gateway = _family("-m", "gateway", "--root")
            self.measure(("ensemble", "gateway"), lambda: [psutil.Process(server_pid), *gateway()])

    def serve(self) -> None:
        """vllm serve."""
        with vllm_serve(self.engine, self.spec, self.options.port) as process:
            self.measure(("serve",), lambda: [psutil.Process(process.pid)])

    def offline(self) -> None:
        """LLM.generate."""
        with offline(self.engine, self.spec) as ask:
            ask([each["prompt"] for each in self.prompts("offline", 8, -1)], self.options.output)
            for streams in self.options.streams:
                for number in range(self.options.rounds):
                    requests = self.prompts("offline", streams, number)
                    with Meter(_family("-m", "python_backend.vllm.raw")) as meter:
                        answer = ask([each["prompt"] for each in requests], self.options.output)
                    tokens = sum(map(len, answer["ids"]))
                    speed = round(tokens / answer["seconds"], 1)
                    self._keep(
                        {"way": "offline", "streams": streams, "tokens_per_s": speed, "tokens": tokens, **meter.report}
                    )

    def soak(self) -> None:
        """Streams with cancels for minutes: what leaks, what fails, what is left."""
        options, ports = self.options, self.spec.ports
        with served(self.config) as server_pid:
            order = Order(
                "grpc", ports.host, ports.grpc, self.spec.name, self.prompts("soak", 2048, 0), options.soak_streams,
                options.soak_seconds, cancel_share=0.1, seed=1, brief=True,
            )  # fmt: skip
            fleet = Fleet(order, options.clients)
            time.sleep(options.soak_seconds / 5)  # caches fill
            before = _memory(server_pid)
            load = fleet.wait()
            after = _memory(server_pid)
            time.sleep(5)  # a canary's step tells the KV cache's state
            lines = load.timelines
            self._keep(
                {
                    "way": "soak",
                    "streams": options.soak_streams,
                    "seconds": options.soak_seconds,
                    "complete": sum(each.finish_reason == "length" for each in lines),
                    "cancelled": sum(each.finish_reason == "cancelled" for each in lines),
                    "errors": [each.error for each in lines if each.error][:20],
                    "tokens_per_s": round(
                        sum(count for each in lines for _, count in each.deltas) / options.soak_seconds, 1
                    ),
                    "ttft_ms": quantiles([each.deltas[0][0] - each.sent for each in lines if each.deltas]),
                    "active_after": active(self.spec),
                    "kv_cache_usage_after": _gauge(self.spec, "conch_kv_cache_usage_ratio"),
                    "memory_mib": after,
                    "memory_growth_mib": {name: round(after[name] - before.get(name, 0.0), 1) for name in after},
                }
            )

    def same_text(self) -> None:
        """Every way's greedy text, one request at a time: a batch changes the sums' order."""
        tokenizer = Tokenizer.from_file(str(self.engine / "tokenizer.json"))
        prompts = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
        requests = [{"prompt": each, "max_tokens": 48} for each in prompts]
        ports, texts = self.spec.ports, {}
        with served(self.config):
            texts["ensemble"] = _texts(Order("grpc", ports.host, ports.grpc, self.spec.name, requests, 1))
            texts["gateway"] = _texts(Order("openai", ports.host, ports.gateway, self.spec.name, requests, 1))
        with vllm_serve(self.engine, self.spec, self.options.port):
            texts["serve"] = _texts(Order("openai", "127.0.0.1", self.options.port, "peer", requests, 1))
        with offline(self.engine, self.spec) as ask:
            ids = [ask([each], 48)["ids"][0] for each in prompts]
            texts["offline"] = [tokenizer.decode(each, skip_special_tokens=True) for each in ids]
        same = {way: sum(a == b for a, b in zip(each, texts["offline"], strict=True)) for way, each in texts.items()}
        self._keep(
            {"way": "same-text", "streams": 1, "prompts": len(prompts), "equal_to_offline": same, "texts": texts}
        )


def _texts(order: Order) -> list[str]:
    load = Fleet(order, 1).wait()
    failed = [each.error for each in load.timelines if each.error]
    if failed:
        raise ServeError(f"{order.way}: {failed[0]}")
    return [each.text for each in load.timelines]


def _memory(server_pid: int) -> dict[str, float]:
    server = psutil.Process(server_pid)
    memory: dict[str, float] = {}
    for process in [server, *server.children(recursive=True)]:
        with suppress(psutil.Error):
            memory[_name(process)] = memory.get(_name(process), 0.0) + process.memory_info().rss / 2**20
    return {name: round(rss, 1) for name, rss in memory.items()}


def _gauge(spec: Deployment, name: str) -> float:
    from urllib.request import urlopen

    with urlopen(f"http://{spec.ports.host}:{spec.ports.metrics}/metrics", timeout=5) as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{"))


@contextmanager
def vllm_serve(engine: Path, spec: Deployment, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """``vllm serve`` with our deployment's limits.

    Raises:
        ServeError: it does not start; the end of its log is in the message.
    """
    limits, options = spec.limits, spec.engine.vllm
    flags = {
        "host": "127.0.0.1",
        "port": port,
        "served-model-name": "peer",
        "dtype": {"fp32": "float32", "bf16": "bfloat16"}[spec.engine.precision],
        "max-model-len": limits.max_seq_len,
        "max-num-seqs": limits.max_batch_size + 1,
        "max-num-batched-tokens": limits.max_num_tokens,
        "gpu-memory-utilization": options.gpu_memory_utilization,
        "load-format": options.load_format,
        "generation-config": "vllm",
        **({"kv-cache-memory-bytes": limits.kv_cache_gib << 30} if not Path("/dev/nvidia0").exists() else {}),
    }
    command = [str(VLLM), "-m", "vllm.entrypoints.cli.main", "serve", str(engine), "--disable-uvicorn-access-log"]
    command += [f"--{name}={value}" for name, value in flags.items()]
    command += ["--enforce-eager"] if options.enforce_eager else []
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            until = time.monotonic() + START_S
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    raise ServeError(f"vllm serve did not start: {log.read()[-3000:]}")
                time.sleep(0.5)
            yield process
        finally:
            _end(process)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def offline(engine: Path, spec: Deployment) -> Iterator[Callable[[list[list[int]], int], dict[str, Any]]]:
    """python_backend.vllm.raw, kept for several questions."""
    log = tempfile.TemporaryFile("w+")  # noqa: SIM115  it is there as long as the process
    process = subprocess.Popen(
        [VLLM, "-m", "python_backend.vllm.raw", str(engine)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        cwd=ROOT,
        start_new_session=True,
    )
    assert process.stdin and process.stdout

    def ask(prompts: list[list[int]], max_tokens: int) -> dict[str, Any]:
        assert process.stdin and process.stdout
        asked = {
            "spec": spec.engine.model_dump(mode="json"),
            "limits": spec.limits.model_dump(mode="json"),
            "prompts": prompts,
            "max_tokens": max_tokens,
        }
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        process.stdin.flush()
        said = process.stdout.readline()
        if not said:
            log.seek(0)
            raise ServeError(f"vLLM's offline engine died with code {process.wait()}: {log.read()[-2000:]}")
        answer: dict[str, Any] = json.loads(said)
        return answer

    try:
        yield ask
    finally:
        _end(process)
        log.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """A vLLM and all its processes; the GPU's memory is free after this."""
    with suppress(psutil.Error):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.terminate()
        _, left = psutil.wait_procs(family, timeout=20)
        for each in left:
            with suppress(psutil.Error):
                each.kill()
        psutil.wait_procs(left, timeout=10)


def _deployment(options: argparse.Namespace) -> tuple[Deployment, Path, Path, int]:
    """The deployment of a shape of random weights, or of a checkpoint, its engine in its place."""
    name = f"bench-{options.shape or options.checkpoint.name}".lower()
    home = engines_root(ROOT, name)
    engine = home / "bench"
    engine.mkdir(parents=True, exist_ok=True)
    if options.shape:
        write_shape(options.shape, engine)
    else:
        for file in options.checkpoint.resolve().iterdir():
            with suppress(FileExistsError):
                (engine / file.name).symlink_to(file)
    model = json.loads((engine / "config.json").read_text())
    eos = model["eos_token_id"]
    source = {"kind": "path", "path": str(engine)}
    data = {
        "name": name,
        "source": source,
        "engine": {
            "runtime": "vllm",
            "precision": options.precision,
            "vllm": {
                "load_format": "dummy" if options.shape else "auto",
                "enforce_eager": options.eager,
                "gpu_memory_utilization": options.memory,
            },
        },
        "limits": {
            "max_seq_len": options.context,
            "max_input_len": options.context - 16,
            "max_batch_size": max(*options.streams, options.soak_streams if "soak" in options.phases else 1, 1),
            "max_queue_size": 512,
            "max_num_tokens": options.batched_tokens,
        },
        "gateway": {"max_queue_s": 120, "max_queue_size": 512},
        "streaming": {"max_responses_per_s": options.responses},
        "ports": {name: options.ports + at for at, name in enumerate(("http", "grpc", "metrics", "gateway"))},
    }
    config = home / "bench.yaml"
    config.write_text(yaml.safe_dump(data))
    spec = load_spec(config)
    files = {file.name: file.stat().st_size for file in engine.iterdir() if file.name != MANIFEST}
    manifest = Manifest(
        deployment=name,
        version="bench",
        runtime="vllm",
        precision=options.precision,
        origin=None,
        built_with={},
        built_for=this_machine(),
        max_position_embeddings=model["max_position_embeddings"],
        vocab_size=model["vocab_size"],
        eos_token_ids=tuple(eos) if isinstance(eos, list) else (eos,),
        measured=None,
        built_at=now(),
        build_seconds=0,
        size_bytes=sum(files.values()),
        files=files,
    )
    (engine / MANIFEST).write_text(manifest.model_dump_json(indent=1))
    with suppress(FileExistsError):
        (home / "current").symlink_to("bench")
    return spec, config, engine, model["vocab_size"]


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
    parser.add_argument("--memory", type=float, default=0.9)
    parser.add_argument("--responses", type=int, default=0, help="streaming.max_responses_per_s")
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--ports", type=int, default=8000, help="the first of the deployment's four")
    parser.add_argument("--port", type=int, default=9100, help="of vllm serve")
    parser.add_argument("--soak-seconds", type=float, default=600)
    parser.add_argument("--soak-streams", type=int, default=256)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    spec, config, engine, vocab = _deployment(options)
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
            {
                "ensemble": bench.ensemble,
                "serve": bench.serve,
                "offline": bench.offline,
                "soak": bench.soak,
                "same-text": bench.same_text,
            }[phase]()
        except (ConchError, psutil.Error, IndexError, ValueError) as failure:
            report["failures"].append(f"{phase}: {failure}")
            print(f"{phase} failed: {failure}", file=sys.stderr, flush=True)
        print(f"{phase}: {time.monotonic() - begun:.0f} s", flush=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConchError as refusal:
        sys.exit(str(refusal))
