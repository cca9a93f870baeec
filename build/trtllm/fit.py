"""Whether TensorRT-LLM 1.2.1 can take a checkpoint as the spec wants it: a table of rules over its JSON files.

Each of these fails inside the container too, but minutes later and in other words. A rule yields what is
wrong and what to do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build.adapters import adapter_fault
from build.drafts import draft_fault
from build.fetch import check_config, read_json
from build.plan.caches import cache_of
from build.plan.config import Config
from build.plan.machines import GIB
from build.plan.memory import CACHE_BYTES
from contract.engines.trtllm.api import version
from contract.engines.trtllm.arguments import quant_algo
from contract.engines.trtllm.lora import target_fault
from contract.errors import BuildError
from contract.gpus import GPUS, USABLE
from contract.spec import Deployment

# Hugging Face architectures that 1.2.1 has a TensorRT network for.
_CAUSAL = (
    "Arctic BaiChuan Baichuan Bloom Cohere Dbrx DeciLM Deepseek DeepseekV2 Exaone Falcon GPTBigCode GPTJ GPTNeoX Gemma "
    "Gemma2 Gemma3 Granite GraniteMoe InternLM InternLM2 Llama MPT Mistral Mixtral Nemotron OPT Phi Phi3 PhiMoE Qwen2 "
    "Qwen2Moe Qwen3 Qwen3Moe RW Starcoder2"
)
_OTHERS = ("ChatGLMForConditionalGeneration", "ChatGLMModel", "GPT2LMHeadModel", "QWenLMHeadModel")
ENGINE_ARCHITECTURES = frozenset({*_OTHERS, *(f"{name}ForCausalLM" for name in _CAUSAL.split())})

# Bytes of a weight; scales included.
_WIDTH = {
    "int8": 1.0,
    "int4": 0.5,
    "int4_awq": 0.53,
    "int8_sq": 1.0,
    "w4a8_awq": 0.53,
    "fp8": 1.0,
    "fp8_rowwise": 1.0,
    "fp8_block": 1.0,
    "nvfp4": 0.57,
}
_STORED = {"float32": 4, "float16": 2, "bfloat16": 2}
_GROUP = 128  # of input channels, which int4_awq and w4a8_awq scale together


@dataclass(frozen=True)
class Model:
    """What a checkpoint's JSON files say."""

    config: dict[str, Any]  # of the text model
    architecture: str
    quantized: str  # our name of its quantization; '' without one
    method: str  # the checkpoint's own name of it
    total_bytes: int  # of its weights; 0 where nothing tells

    def number(self, name: str, default: int = 0) -> int:
        """A size; the default where the config has none or null."""
        return int(self.config.get(name) or default)


def read_model(checkpoint: Path) -> Model:
    """The model of a checkpoint folder."""
    whole = check_config(checkpoint)
    config = whole.get("text_config") or whole
    quantized, method = _quantization(checkpoint, whole)
    index = checkpoint / "model.safetensors.index.json"
    shards = sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))
    total = int(read_json(index).get("metadata", {}).get("total_size", 0)) if index.exists() else shards
    return Model(config, whole["architectures"][0], quantized, method, total)


def check_model(checkpoint: Path, spec: Deployment) -> None:
    """Refuse a checkpoint that cannot be had as the spec wants it.

    Raises:
        BuildError: with the first reason.
    """
    model = read_model(checkpoint)
    for rule in (_weights, _context, _split, _adapters, _draft, _memory):
        for fault in rule(model, spec):
            raise BuildError(fault)


def _quantization(checkpoint: Path, config: dict[str, Any]) -> tuple[str, str]:
    """How the weights are quantized already: our name ('?' for one that 1.2.1 refuses), and the checkpoint's."""
    modelopt = checkpoint / "hf_quant_config.json"
    if modelopt.exists():
        algorithm = str(read_json(modelopt).get("quantization", {}).get("quant_algo"))
        names = {quant_algo(name): name for name in _WIDTH}
        return names.get(algorithm, "?"), algorithm
    found = config.get("quantization_config")
    if not found:
        return "", ""
    method = str(found.get("quant_method"))
    if method == "fp8" and found.get("weight_block_size"):
        return "fp8_block", method
    return "?", method


def _weights(model: Model, spec: Deployment) -> Iterator[str]:
    wanted, backend = spec.engine.precision, spec.engine.trtllm.backend
    if model.quantized == "?":
        yield (
            f"the checkpoint is quantized by {model.method}, which TensorRT-LLM {version()} refuses. "
            f"Use the unquantized checkpoint with engine.precision int4_awq or fp8, one that NVIDIA's ModelOpt "
            "quantized, or runtime vllm"
        )
    if backend != "pytorch" and model.architecture not in ENGINE_ARCHITECTURES:
        yield (
            f"TensorRT-LLM {version()} builds no engine of {model.architecture}. "
            "Set engine.trtllm.backend: pytorch, which needs none"
        )
    if model.quantized and model.quantized != wanted:
        yield (
            f"the checkpoint is quantized to {model.quantized} already, engine.precision asks for {wanted}. "
            f"Set engine.precision: {model.quantized}, or use the unquantized checkpoint"
        )
    if not model.quantized and backend == "pytorch" and wanted in _WIDTH:
        yield (
            f"backend pytorch quantizes nothing, and the checkpoint is not in {wanted}. Use one that is "
            "(NVIDIA publishes them as …-FP8 and …-FP4), engine.precision bf16, or backend tensorrt"
        )
    if not model.quantized and wanted == "fp8_block":
        yield "engine.precision fp8_block is only of checkpoints that are in it already, such as DeepSeek-V3's"


def _context(model: Model, spec: Deployment) -> Iterator[str]:
    wanted, known = spec.limits.max_seq_len, model.number("max_position_embeddings")
    if wanted > known:
        yield (
            f"limits.max_seq_len is {wanted}, the model's context is {known}. Lower limits.max_seq_len, "
            "or use a checkpoint whose config.json scales its positions (rope_scaling)"
        )


def _split(model: Model, spec: Deployment) -> Iterator[str]:
    """Over the GPUs."""
    parallel, whole_heads = spec.engine.parallel, spec.engine.trtllm.attention_dp
    tensor, pipeline, expert = parallel.tensor, parallel.pipeline, parallel.expert
    heads, layers = model.number("num_attention_heads"), model.number("num_hidden_layers")
    if not whole_heads and heads % tensor:
        fitting = [str(each) for each in (2, 4, 8, 16, 32, 64) if heads % each == 0] or ["1"]
        yield f"engine.parallel.tensor {tensor} does not divide the model's {heads} heads. Use {', '.join(fitting)}"
    kept = model.number("num_key_value_heads", heads)
    if not whole_heads and kept % tensor and tensor % kept:
        yield (
            f"engine.parallel.tensor {tensor} neither divides the model's {kept} key-value heads nor is a multiple of "
            "them. Use a power of 2"
        )
    if pipeline > layers:
        yield f"engine.parallel.pipeline {pipeline} is more than the model's {layers} layers. Lower it"
    names = ("num_experts", "num_local_experts", "n_routed_experts")
    experts = next((model.number(name) for name in names if model.number(name)), 0)
    if expert > 1 and not experts:
        yield f"engine.parallel.expert is {expert}, and {model.architecture} has no experts. Leave it out"
    if experts % expert:
        yield f"engine.parallel.expert {expert} does not divide the model's {experts} experts. Use 2, 4 or 8"
    width = model.number("moe_intermediate_size") or model.number("intermediate_size")
    grouped = spec.engine.precision in ("int4_awq", "w4a8_awq") and not model.quantized
    if grouped and width % (tensor // expert * _GROUP):
        yield (
            f"engine.precision {spec.engine.precision} scales groups of {_GROUP} channels, and {width} channels split "
            f"by engine.parallel.tensor {tensor} are no whole groups. Lower it, or use fp8"
        )


def _adapters(model: Model, spec: Deployment) -> Iterator[str]:
    lora = spec.engine.trtllm.lora
    if fault := adapter_fault(lora, "engine.trtllm.lora"):
        yield fault
    for name, path in (lora.adapters if lora else {}).items():
        if fault := target_fault(read_json(path.expanduser() / "adapter_config.json")):
            yield f"engine.trtllm.lora.adapters.{name} {fault}"


def _draft(model: Model, spec: Deployment) -> Iterator[str]:
    if fault := draft_fault(spec.engine):
        yield fault


def _memory(model: Model, spec: Deployment) -> Iterator[str]:
    gpu = spec.engine.trtllm.gpu
    if gpu is None or not model.total_bytes:
        return
    weights, cache = sizes(model, spec)
    if weights + cache > GPUS[gpu].memory_gib * GIB * USABLE:
        yield (
            f"{weights / GIB:.1f} GiB of weights in {spec.engine.precision} and {cache / GIB:.1f} GiB of cache for one "
            f"request of {spec.limits.max_seq_len} tokens do not fit one of {spec.engine.parallel.gpus} × {gpu} "
            f"({GPUS[gpu].memory_gib} GiB). Raise engine.parallel.tensor, or lower engine.precision"
        )


def sizes(model: Model, spec: Deployment) -> tuple[float, float]:
    """Bytes on each GPU: of the weights, and of the cache of one request of limits.max_seq_len tokens."""
    parallel = spec.engine.parallel
    stored = _STORED.get(str(model.config.get("torch_dtype") or model.config.get("dtype")), 2)
    weights = float(model.total_bytes)
    if not model.quantized:
        weights *= _WIDTH.get(spec.engine.precision, 2.0) / stored
    cache = cache_of(Config("config.json", model.config, model.architecture, {}))
    width = CACHE_BYTES[spec.engine.trtllm.kv_cache.precision] or 2
    layers = -(-model.number("num_hidden_layers") // parallel.pipeline)
    per_token = cache.numbers(parallel.tensor) * width * layers
    return weights / parallel.gpus, per_token * spec.limits.max_seq_len
