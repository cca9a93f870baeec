"""What is asked for: by a deployment's YAML, or by the command's options where there is none yet."""

import re
from dataclasses import dataclass, replace

from build.plan.config import Config, read_config, read_source
from build.plan.layout import Layout
from build.plan.machines import Machines, parse_machines
from build.plan.memory import CACHE_BYTES, Demand
from build.plan.quantization import own
from contract.engines.lmdeploy.options import LmdeployOptions
from contract.engines.sglang.options import SglangOptions
from contract.engines.trtllm.options import TrtllmSpec
from contract.engines.vllm.options import VllmOptions
from contract.errors import BuildError
from contract.spec import Deployment

_LAYOUT = re.compile(r"([1-9][0-9]{0,3})(?:x([1-9][0-9]{0,3}))?(?:x([1-9][0-9]{0,3}))?")
# Where no deployment says: a request of 8192 tokens, and vLLM's and TensorRT-LLM's usual batch and step.
_LENGTH, _BATCH, _STEP = 8192, 256, 8192


@dataclass(frozen=True)
class Asked:
    """Everything that a plan is made of."""

    config: Config
    machines: Machines
    demand: Demand
    precision: str = ""  # '': the checkpoint's own
    layout: Layout | None = None  # None: look at all


@dataclass(frozen=True)
class Options:
    """What the command was told beside the model and the GPUs; 0 and '' where it was not."""

    precision: str = ""
    cache: str = ""
    length: int = 0
    prompt: int = 0
    batch: int = 0
    layout: str = ""


def by_options(model: str, gpus: str, options: Options) -> Asked:
    """A model that has no deployment yet.

    Raises:
        BuildError: an option that is none, or a model or GPUs that are not there.
    """
    config, machines = read_config(model), _machines(gpus)
    cache = options.cache or "auto"
    if cache not in CACHE_BYTES:
        raise BuildError(f"CACHE={cache} is not known", fix=f"Known: {', '.join(CACHE_BYTES)}")
    length = options.length or min(_LENGTH, config.size("max_position_embeddings"))
    prompt = options.prompt or length // 2
    demand = Demand(length, prompt, options.batch or _BATCH, _STEP, cache)
    return Asked(config, machines, demand, options.precision, _layout(options.layout))


def by_deployment(spec: Deployment, gpus: str, options: Options) -> Asked:
    """A deployment; its own GPUs unless others are named.

    Raises:
        BuildError: it uses no GPUs, or has no config.json yet, or an option contradicts it.
    """
    engine = spec.engine
    if options != Options():
        raise BuildError("a deployment has its own precision, cache, limits and layout", fix="Change them in its YAML")
    if not engine.kind.on_gpus:
        raise BuildError(
            f"engine.runtime {engine.runtime} uses no GPU, and the plan is of GPUs",
            fix="Plan a deployment that does, or give MODEL= instead of CONFIG=",
        )
    config = read_source(spec.source)
    limits, parallel = spec.limits, engine.parallel
    layout = Layout(parallel.tensor, parallel.pipeline, parallel.expert, engine.trtllm.attention_dp)
    demand = Demand(limits.max_seq_len, limits.max_input_len, limits.max_batch_size, limits.max_num_tokens)
    precision = "" if config.quantization else engine.precision
    match engine.options:
        case VllmOptions() | SglangOptions() as theirs:
            demand = replace(demand, cache="fp8" if theirs.kv_cache_dtype.startswith("fp8") else "auto")
            if isinstance(theirs, VllmOptions):
                demand = replace(demand, usable=theirs.gpu_memory_utilization)
            if theirs.quantization == "fp8" and not config.quantization:
                precision = "fp8"
        case LmdeployOptions(quant_policy=bits):
            demand = replace(demand, cache={0: "auto", 8: "int8", 4: "int4"}[bits])
        case TrtllmSpec(kv_cache=kept):
            demand = replace(demand, cache=kept.precision)
            precision = "" if own(config).name == engine.precision else engine.precision
    return Asked(config, _machines(gpus) if gpus else _machines_of(spec), demand, precision, layout)


def _machines(gpus: str) -> Machines:
    if not gpus:
        raise BuildError("no GPUs are named", fix="Give GPUS=h200x8x2: two machines of eight H200")
    return parse_machines(gpus)


def _machines_of(spec: Deployment) -> Machines:
    """As many of engine.trtllm.gpu as the deployment spreads over."""
    gpu, gpus = spec.engine.trtllm.gpu, spec.engine.parallel.gpus
    if gpu is None:
        return _machines("")
    each = min(gpus, spec.engine.trtllm.gpus_per_node)
    return Machines(gpu, each, -(-gpus // each))


def _layout(text: str) -> Layout | None:
    """8x2x8: TP, PP and EP; what is left out is 1."""
    if not text:
        return None
    found = _LAYOUT.fullmatch(text.strip().lower())
    if found is None:
        raise BuildError(f"LAYOUT={text} is not of the form TP, TPxPP or TPxPPxEP", fix="Write 8x2x8")
    tensor, pipeline, expert = (int(each or 1) for each in found.groups())
    return Layout(tensor, pipeline, expert)
