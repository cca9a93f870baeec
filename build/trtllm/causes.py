"""Why a build failed, out of hundreds of lines of a container's log: what is known to users, else the last word."""

import re
from collections.abc import Sequence

from build.trtllm.inside import FAILED

# A sign in the log → what it means and what to do. The first that is found counts.
KNOWN: tuple[tuple[str, str, str], ...] = (
    (
        r"could not select device driver|nvidia-container-cli|unresolvable CDI devices|unknown flag: --gpus",
        "the container gets no GPU",
        "Install the NVIDIA Container Toolkit, and restart the container service",
    ),
    (
        r"CUDA driver version is insufficient|forward compatibility was attempted",
        "the driver is too old for the image",
        "Update the driver to the branch that docs/tensorrt-llm.md names",
    ),
    (
        r"CUDA out of memory|OutOfMemory|cudaErrorMemoryAllocation|Out of memory allocating",
        "a GPU has too little memory for the build",
        "Raise engine.parallel.tensor, lower limits.max_batch_size or max_num_tokens, or set fast_build: true",
    ),
    (
        r"exit status 137|Killed$|oom-kill|MemoryError",
        "the host has too little memory for the build",
        "Give it more: TensorRT needs about twice the weights",
    ),
    (
        r"No space left on device|Disk quota exceeded",
        "the disk is full",
        "Free some space: an engine needs about twice the weights",
    ),
    (
        r"is not supported in TRT-LLM yet|Unsupported architecture",
        "TensorRT-LLM builds no engine of this architecture",
        "Set engine.trtllm.backend: pytorch",
    ),
    (
        r"Unsupported quantization_config",
        "TensorRT-LLM refuses the checkpoint's quantization",
        "Use the unquantized checkpoint",
    ),
    (
        r"cnn_dailymail|DatasetNotFoundError|Couldn't reach .* on the Hub|OfflineModeIsEnabled",
        "the calibration dataset could not be read",
        "Name a folder that holds it in engine.trtllm.calibration.dataset, or let the container reach the network",
    ),
    (
        r"manifest unknown|manifest for .* not found|pull access denied|no such image|image not known",
        "the image could not be pulled",
        "Check engine.trtllm.container.image, log in to its registry, or load the image from a file",
    ),
    (
        r"Permission denied",
        "a file may not be read or written inside the container",
        "Let your user read the checkpoint and write engines/",
    ),
    (
        r"MPI_ERR_SPAWN|could not spawn processes",
        "MPI cannot start the process of a GPU",
        "Unset what another launcher left (env | grep -E 'MPI|PMI|SLURM'). One GPU needs no such process with "
        "TLLM_WORKER_USE_SINGLE_PROCESS=1, which streams more slowly and tells no statistics",
    ),
    (
        r"CUDA-capable device\(s\) is/are busy|devices are busy or unavailable|cudaErrorDevicesUnavailable",
        "a GPU is held by another process",
        "nvidia-smi names it: a rank of an earlier server ends with kill -9",
    ),
    (
        r"NCCL error|ncclUnhandled|ncclSystemError",
        "the GPUs cannot talk to each other",
        "Start with NCCL_DEBUG=INFO; /dev/shm and peer access are the usual causes",
    ),
    (
        r"Executor worker died during initialization",
        "a rank died while it started",
        "The log tells why before that line. Under trtllm-llmapi-launch, end the job on every machine first",
    ),
)


def cause(log: Sequence[str], status: int) -> tuple[str, str]:
    """What went wrong and what to do.

    Args:
        log: the container's output, a line an entry.
        status: its exit status.
    """
    told = [line.removeprefix(FAILED) for line in log if line.startswith(FAILED)]
    lines = [*told, *reversed(log), f"exit status {status}"]  # our own line first, then the latest
    for sign, meaning, fix in KNOWN:
        found = next((line for line in lines if re.search(sign, line)), "")
        if found:
            said = "" if found.startswith("exit status") else f" ({_short(found)})"
            return f"{meaning}{said}", fix
    errors = [line for line in log if re.match(r"[A-Za-z_.]*(Error|Exception)\b", line.strip()) or "[TRT] [E]" in line]
    last = (told or errors or [line for line in log if line.strip()] or [f"exit status {status}"])[-1]
    return _short(last), ""


def _short(line: str) -> str:
    line = " ".join(line.split())
    return line if len(line) <= 240 else f"{line[:240]}…"
