"""vLLM without us: ``vllm serve`` and the offline engine, with the limits of a deployment of ours."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from contract.errors import ServeError
from contract.spec import Deployment
from loadtests.own_server import START_S, end, listens
from loadtests.served import ROOT

VLLM = ROOT / ".venv-vllm" / "bin" / "python"


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
            while not listens(port):
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    raise ServeError(f"vllm serve did not start: {log.read()[-3000:]}")
                time.sleep(0.5)
            yield process
        finally:
            end(process)


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
        end(process)
        log.close()
