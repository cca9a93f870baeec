"""What a deployment may tell LMDeploy beyond what every engine is told (``engine.lmdeploy`` of the spec)."""

from typing import Literal, Self

from pydantic import Field, model_validator

from contract.frozen import Frozen
from contract.lora import Lora


class LmdeployOptions(Frozen):
    """Names and meanings are LMDeploy's where it has the option under one name."""

    backend: Literal["turbomind", "pytorch"] = "turbomind"
    cache_max_entry_count: float = Field(default=0.8, gt=0, lt=1)  # of the GPU memory that the weights leave
    quant_policy: Literal[0, 4, 8] = 0  # bits of the KV cache; 0: as the activations
    model_format: Literal["hf", "awq", "gptq", "compressed-tensors", "fp8", "mxfp4"] | None = None  # None: as it says
    prefix_caching: bool = True
    communicator: Literal["nccl", "cuda-ipc"] = "nccl"  # of turbomind, between GPUs
    eager_mode: bool = False  # of pytorch: no CUDA graphs, a quick start and slow tokens
    lora: Lora | None = None  # of pytorch

    @model_validator(mode="after")
    def _of_the_backend(self) -> Self:
        if self.backend == "turbomind" and self.eager_mode:
            raise ValueError("eager_mode is of backend pytorch, and backend is turbomind")
        if self.backend == "turbomind" and self.lora:
            raise ValueError("lora is of backend pytorch: TurboMind has no adapters")
        if self.backend == "pytorch" and self.communicator != "nccl":
            raise ValueError("communicator is of backend turbomind, and backend is pytorch")
        if self.backend == "pytorch" and self.model_format not in (None, "fp8"):
            raise ValueError(
                f"model_format {self.model_format} is of backend turbomind; pytorch reads the checkpoint's"
            )
        return self
