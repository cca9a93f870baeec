"""GPUs by name: what an engine for one of them can compute with, and how much fits."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """One model of GPU."""

    sm: int  # compute capability × 10
    memory_gib: int  # as nvidia-smi counts it, rounded down


GPUS = {
    "a10": Gpu(86, 22),
    "a30": Gpu(80, 24),
    "a100-40gb": Gpu(80, 40),
    "a100": Gpu(80, 80),
    "l4": Gpu(89, 22),
    "l40s": Gpu(89, 44),
    "rtx-4090": Gpu(89, 23),
    "h20": Gpu(90, 95),
    "h100": Gpu(90, 79),
    "h200": Gpu(90, 139),
    "gh200": Gpu(90, 94),
    "b200": Gpu(100, 178),
    "rtx-5090": Gpu(120, 31),
    "rtx-pro-6000": Gpu(120, 95),
}

# The oldest compute capability that has a precision, of weights or of the KV cache.
MIN_SM = {
    "fp8": (89, "Ada, Hopper or Blackwell"),
    "fp8_rowwise": (89, "Ada, Hopper or Blackwell"),
    "fp8_block": (90, "Hopper or Blackwell"),
    "w4a8_awq": (89, "Ada, Hopper or Blackwell"),
    "nvfp4": (100, "Blackwell"),
}
OLDEST_SM = 80  # what TensorRT-LLM 1.2 runs on at all


def generation(sm: int) -> str:
    """A compute capability as people write it."""
    return f"sm{sm}"
