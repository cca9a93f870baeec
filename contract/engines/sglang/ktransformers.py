"""KTransformers: a mixture of experts of which the GPUs hold some experts and the CPU the rest (``engine.sglang.kt``).

Names and meanings are those of SGLang's ``--kt-…`` arguments.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from contract.errors import SpecError
from contract.frozen import Frozen

_EXPERTS = ("n_routed_experts", "num_experts", "num_local_experts")  # what config.json calls their number


class Ktransformers(Frozen):
    """Which experts the CPU computes, and how."""

    # The descriptions are what stands beside the arguments of a command line.
    weight_path: Path = Field(description="the CPU's experts, as kt-kernel converted them")  # a folder
    num_gpu_experts: int = Field(ge=0, description="of every layer, on the GPUs; the CPU has the rest")
    cpuinfer: int = Field(ge=1, description="threads that compute experts")  # the physical cores, less a few
    threadpool_count: int = Field(default=2, ge=1, description="one pool of threads for each NUMA node")
    method: Literal["AMXINT4", "AMXINT8", "RAWINT4", "FP8", "LLAMAFILE", "MOE_INT4", "MOE_INT8"] = Field(
        default="AMXINT4", description="how the CPU's experts are quantized"
    )
    max_deferred_experts_per_token: int | None = Field(default=None, ge=0, description="that may come a layer late")

    @model_validator(mode="after")
    def _every_pool_has_a_thread(self) -> Self:
        if self.cpuinfer < self.threadpool_count:
            raise ValueError(
                f"cpuinfer ({self.cpuinfer}) must not be below threadpool_count ({self.threadpool_count}): "
                "every NUMA node's pool needs a thread"
            )
        return self

    def arguments(self) -> dict[str, tuple[Any, str]]:
        """As SGLang's ``ServerArgs``, with their reasons."""
        whys = {
            name: f"{field.description} (engine.sglang.kt.{name})" for name, field in type(self).model_fields.items()
        }
        return {f"kt_{key}": (str(value) if isinstance(value, Path) else value, whys[key]) for key, value in self}


def check_model(kt: Ktransformers, config: dict[str, Any]) -> None:
    """Refuse a model that has no experts to share out, or fewer than the GPUs are to hold.

    Args:
        config: the checkpoint's config.json.

    Raises:
        SpecError: with the key at fault.
    """
    experts = next((config[name] for name in _EXPERTS if config.get(name)), 0)
    if not experts:
        model = (config.get("architectures") or ["this model"])[0]
        raise SpecError(
            f"engine.sglang.kt: {model} has no experts for a CPU to compute", fix="Leave kt out, or serve a MoE model"
        )
    if kt.num_gpu_experts > experts:
        raise SpecError(
            f"engine.sglang.kt.num_gpu_experts: {kt.num_gpu_experts} are more than the {experts} experts of a layer",
            fix="Lower it, or leave kt out where the GPUs hold all of them",
        )
