"""What a deployment may tell SGLang beyond what every engine is told (``engine.sglang`` of the spec)."""

from typing import Literal, Self

from pydantic import Field, model_validator

from contract.engines.sglang.ktransformers import Ktransformers
from contract.engines.speculative import Ngram, Speculative
from contract.frozen import Frozen
from contract.lora import Lora


class SglangOptions(Frozen):
    """Names and meanings are SGLang's where it has the option under one name."""

    mem_fraction_static: float | None = Field(default=None, gt=0, lt=1)  # of the GPU; None: SGLang's own choice
    attention_backend: str | None = Field(default=None, pattern=r"^[a-z0-9_]+$")  # None: SGLang's own choice
    disable_cuda_graph: bool = False  # a quick start and slow tokens
    quantization: str | None = Field(default=None, pattern=r"^[a-z0-9_-]+$")  # fp8, …; None: as the checkpoint says
    kv_cache_dtype: Literal["auto", "bfloat16", "fp8_e4m3", "fp8_e5m2"] = "auto"
    load_format: Literal["auto", "dummy"] = "auto"  # dummy: random weights, for measuring speed alone
    prefix_caching: bool = True
    guided_decoding: bool = True  # off: SGLang needs no tokenizer, and its detokenizer has nothing to do
    deterministic: bool = False  # on: a request's seed counts, and tokens are slower
    lora: Lora | None = None
    speculative: Speculative | None = None
    trust_remote_code: bool = False  # on: Python code in the checkpoint may run
    kt: Ktransformers | None = None  # none: the GPUs hold every expert

    @model_validator(mode="after")
    def _adapters_with_ngrams_only(self) -> Self:
        if self.lora and self.speculative and not isinstance(self.speculative, Ngram):
            raise ValueError(f"lora goes with speculative ngram only in SGLang, and not with {self.speculative.kind}")
        return self
