"""``engine.trtllm`` of a deployment spec: how TensorRT-LLM builds and runs the model."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from contract.engines.trtllm.images import PINNED
from contract.frozen import Frozen
from contract.lora import Lora

Backend = Literal["tensorrt", "pytorch"]
GpuName = Literal[
    "a10",
    "a30",
    "a100-40gb",
    "a100",
    "a800",
    "l4",
    "l40s",
    "rtx-4090",
    "h20",
    "h100",
    "h800",
    "h200",
    "gh200",
    "b200",
    "rtx-5090",
    "rtx-pro-6000",
]
Arguments = dict[str, Any]


class KvCache(Frozen):
    """The paged cache of keys and values."""

    precision: Literal["auto", "fp8", "int8", "nvfp4"] = "auto"  # auto: as the activations
    memory_fraction: float = Field(default=0.9, gt=0, le=1)  # of what the weights leave
    reuse: bool = True  # blocks of a prompt that another request had
    tokens_per_block: int = Field(default=32, ge=1)
    host_gib: int = Field(default=0, ge=0)  # blocks that the GPU has no room for go to the host's memory


class Calibration(Frozen):
    """How activation scales are found where a precision needs them."""

    dataset: str = "cnn_dailymail"  # of the Hugging Face hub, or a folder
    batches: int = Field(default=512, ge=1)
    batch_size: int = Field(default=1, ge=1)
    max_seq_len: int = Field(default=512, ge=1)


class Lookahead(Frozen):
    """Speculation without a draft model."""

    kind: Literal["lookahead"]
    window: int = Field(default=4, ge=1)
    ngram: int = Field(default=3, ge=1)
    verification: int = Field(default=4, ge=1)


class Medusa(Frozen):
    """Speculation by extra heads."""

    kind: Literal["medusa"]
    model: Path  # the folder of the heads
    heads: int = Field(default=4, ge=1)
    choices: tuple[tuple[int, ...], ...]  # the tree of candidates


class Eagle(Frozen):
    """Speculation by a small model over the large one's features."""

    kind: Literal["eagle"]
    model: Path
    max_draft_len: int = Field(ge=1)
    choices: tuple[tuple[int, ...], ...] | None = None  # of an engine; none: a dynamic tree or a chain


Speculative = Annotated[Lookahead | Medusa | Eagle, Field(discriminator="kind")]


class Extra(Frozen):
    """Rare arguments, passed on as they are; each is checked against the recorded API."""

    llm: Arguments = Field(default_factory=dict)
    build: Arguments = Field(default_factory=dict)
    plugin: Arguments = Field(default_factory=dict)
    kv_cache: Arguments = Field(default_factory=dict)
    scheduler: Arguments = Field(default_factory=dict)
    quant: Arguments = Field(default_factory=dict)
    calibration: Arguments = Field(default_factory=dict)


class Container(Frozen):
    """Where it is built, unless tensorrt_llm is importable here."""

    image: str = Field(default=PINNED, min_length=1)
    program: Literal["auto", "docker", "podman", "nerdctl"] = "auto"
    network: bool = True  # off: the build reaches no network; calibration.dataset must then be a folder
    pull: Literal["missing", "never", "always"] = "missing"
    proxy: bool = True  # hand HTTP_PROXY, HTTPS_PROXY and NO_PROXY on


class TrtllmSpec(Frozen):
    """How TensorRT-LLM builds and runs the model."""

    backend: Backend = "tensorrt"  # pytorch: no engine is built, the checkpoint is loaded as it is
    gpu: GpuName | None = None  # what it is built for; none: the GPU that the build finds
    gpus_per_node: int = Field(default=8, ge=1)
    load_timeout_s: int = Field(default=1800, ge=1)  # of a server's start; a hang ends there
    kv_cache: KvCache = KvCache()
    chunked_context: bool = True  # long prompts are prefilled in pieces of limits.max_num_tokens
    scheduler: Literal["guaranteed_no_evict", "max_utilization"] = "guaranteed_no_evict"
    guided_decoding: bool = True  # by xgrammar
    log_probs: bool = False  # an engine keeps every logit for them
    cuda_graphs: bool | None = None  # none: TensorRT-LLM's own choice
    multiple_profiles: bool = True  # of an engine: faster at any batch, slower to build
    fast_build: bool = False  # of an engine: built sooner, a little slower to run
    attention_dp: bool = False  # of pytorch: attention by data instead of by tensor, for DeepSeek-V3 and its like
    calibration: Calibration = Calibration()
    lora: Lora | None = None
    speculative: Speculative | None = None
    container: Container = Container()
    extra: Extra = Extra()
