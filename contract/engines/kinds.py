"""The engines by name, and what the rooms ask of each: one row an engine.

A row says what differs from :class:`Kind`'s defaults. What an engine does otherwise than others is in its room.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

Precision = Literal[
    "fp32",
    "bf16",
    "fp16",
    "int8",
    "int4",
    # TensorRT-LLM's own
    "int4_awq",
    "int8_sq",
    "w4a8_awq",
    "fp8",
    "fp8_rowwise",
    "fp8_block",
    "nvfp4",
]


@dataclass(frozen=True)
class Kind:
    """The facts of one engine."""

    title: str  # as its makers write it
    version: str = ""  # the release whose API is recorded (tests/doubles/api); '': its adapter is one for several
    precisions: tuple[Precision, ...] = ()  # (): any, or they depend on its options
    weights: bool = True  # it serves a checkpoint
    on_gpus: bool = False
    on_cpus_too: bool = False
    pipeline: bool = True  # it splits a model into stages
    several_nodes: bool = False  # an engine may be more than one machine's
    by_mpi: bool = False  # and a rank is started on every GPU of them
    in_stage: bool = False  # it needs no process of its own beside Triton's
    own_processes: bool = False  # they can outlive a leader that only exits
    start_s: float = 120.0  # until a server answers

    @property
    def on_cores(self) -> bool:
        """Whether it computes on the machine's cores, which the stages need too."""
        return self.weights and not self.on_gpus


_COMPILES_S = 1200.0  # it compiles, and captures graphs of every batch size

KINDS: dict[str, Kind] = {
    "openvino": Kind("OpenVINO", precisions=("fp32", "bf16", "int8", "int4")),
    "synthetic": Kind("synthetic", weights=False, in_stage=True),
    "trtllm": Kind("TensorRT-LLM", on_gpus=True, several_nodes=True, by_mpi=True, own_processes=True),
    "vllm": Kind(
        "vLLM",
        precisions=("fp32", "bf16"),
        on_gpus=True,
        on_cpus_too=True,
        several_nodes=True,
        start_s=_COMPILES_S,
    ),
    "sglang": Kind(
        "SGLang",
        version="0.5.17",
        precisions=("bf16", "fp16"),
        on_gpus=True,
        several_nodes=True,
        own_processes=True,
        start_s=_COMPILES_S,
    ),
    "lmdeploy": Kind(
        "LMDeploy",
        version="0.18.0",
        precisions=("bf16", "fp16"),
        on_gpus=True,
        pipeline=False,
        own_processes=True,
        start_s=_COMPILES_S,
    ),
}

if TYPE_CHECKING:
    Runtime = str
else:
    Runtime = Literal[tuple(KINDS)]
