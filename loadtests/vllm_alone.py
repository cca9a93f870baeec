"""vLLM without us: ``vllm serve`` and the offline engine, with the limits of a deployment of ours."""

import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from contract.errors import ServeError
from contract.spec import Deployment
from loadtests.served import ROOT

VLLM = ROOT / ".venv-vllm" / "bin" / "python"
START_S = 1200.0


@contextmanager
def vllm_serve(
    engine: Path, spec: Deployment, port: int, memory: float | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """``vllm serve`` with our deployment's limits.

    Args:
        memory: its share of the GPU's memory, where it is not to be the deployment's.

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
        "gpu-memory-utilization": memory or options.gpu_memory_utilization,
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
