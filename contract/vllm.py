"""What a deployment may tell vLLM beyond what every engine is told (``engine.vllm`` of the spec)."""

from typing import Literal

from pydantic import Field

from contract.frozen import Frozen


class VllmOptions(Frozen):
    """Names and meanings are vLLM's."""

    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)  # of the GPU; on a CPU limits.kv_cache_gib counts
    enforce_eager: bool = False  # no compilation and no CUDA graphs: a quick start and slow tokens
    quantization: str | None = Field(default=None, pattern=r"^[a-z0-9_-]+$")  # fp8, …; None: as the checkpoint says
    kv_cache_dtype: Literal["auto", "fp8", "fp8_e4m3", "fp8_e5m2", "bfloat16"] = "auto"
    load_format: Literal["auto", "dummy"] = "auto"  # dummy: random weights, for measuring speed alone
    prefix_caching: bool = True
    distributed_executor_backend: Literal["mp", "ray"] = "mp"  # over the nodes of a cluster
