"""What a deployment may tell vLLM beyond what every engine is told (``engine.vllm`` of the spec)."""

from typing import Literal

from pydantic import Field, field_validator

from contract.engines.speculative import Speculative
from contract.frozen import Frozen
from contract.lora import Lora

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM can make room for


class VllmOptions(Frozen):
    """Names and meanings are vLLM's."""

    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)  # of the GPU; on a CPU limits.kv_cache_gib counts
    enforce_eager: bool = False  # no compilation and no CUDA graphs: a quick start and slow tokens
    quantization: str | None = Field(default=None, pattern=r"^[a-z0-9_-]+$")  # fp8, …; None: as the checkpoint says
    kv_cache_dtype: Literal["auto", "fp8", "fp8_e4m3", "fp8_e5m2", "bfloat16"] = "auto"
    load_format: Literal["auto", "dummy"] = "auto"  # dummy: random weights, for measuring speed alone
    prefix_caching: bool = True
    lora: Lora | None = None
    speculative: Speculative | None = None
    distributed_executor_backend: Literal["mp", "ray"] = "mp"  # over the nodes of a cluster

    @field_validator("lora")
    @classmethod
    def _has_room(cls, lora: Lora | None) -> Lora | None:
        if lora and lora.max_rank > RANKS[-1]:
            raise ValueError(f"max_rank {lora.max_rank} is above {RANKS[-1]}, the highest that vLLM has")
        return lora
