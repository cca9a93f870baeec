"""An engine of TensorRT-LLM against the machine that wants to serve it: a table of what must agree.

TensorRT says little when these do not, or hangs (docs/troubleshooting.md): so everything is compared before
any weight is read. A rule returns what does not fit and the way out, or ''.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from contract.driver import driver_fault
from contract.engines.trtllm.api import version
from contract.engines.trtllm.arguments import WEIGHTS, build_call
from contract.engines.trtllm.calls import Call, Member, to_json
from contract.engines.trtllm.images import RELEASES, oldest_driver
from contract.gpu_machine import UNLIMITED, GpuMachine
from contract.gpus import OLDEST_SM, generation
from contract.manifest import GpuTarget, Manifest, digest
from contract.spec import Deployment

GIB = 2**30
_SHM_GIB_A_GPU = 1  # NCCL's buffers between the processes of one machine
_REBUILD = "Run make engine for this config, in the container that serves it"
# What differs between two builds of one config, or is decided anew by every server.
_NOT_BUILT_IN = (
    "gpus_per_node",
    "model",
    "workspace",
    "input_timing_cache",
    "output_timing_cache",
    "speculative_model",
    "lora_dir",
    "lora_target_modules",  # the adapters', which lie in the engine
)


@dataclass(frozen=True)
class Case:
    """What the rules compare."""

    engine: Path
    manifest: Manifest
    gpu: GpuTarget
    spec: Deployment
    machine: GpuMachine


def mismatches(engine: Path, manifest: Manifest, spec: Deployment, machine: GpuMachine) -> list[str]:
    """Everything that does not fit, each with its cure."""
    if manifest.gpu is None:
        return [f"{engine} was not built for a GPU. {_REBUILD}"]
    case = Case(engine, manifest, manifest.gpu, spec, machine)
    return [fault for rule in RULES for fault in [rule(case)] if fault]


def built_in(call: Call) -> dict[str, Any]:
    """A build's arguments by their dotted names, but those that leave no trace in the engine."""

    def flat(prefix: str, arguments: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in arguments.items():
            if name in _NOT_BUILT_IN:
                continue
            if isinstance(value, Call):
                found |= flat(f"{prefix}{name}.", value.arguments)
            else:
                found[prefix + name] = value.name if isinstance(value, Member) else to_json(value)
        return found

    return flat("", call.arguments)


def wanted_options(spec: Deployment) -> dict[str, Any]:
    """What a build of this spec would have built in."""
    if spec.engine.trtllm.backend == "pytorch":
        return {}
    return built_in(build_call(spec, checkpoint="", folder=PurePosixPath(), workspace="", kernels="", new_kernels=""))


def _installed(case: Case) -> str:
    if case.machine.tensorrt_llm:
        return ""
    return f"TensorRT-LLM is not installed here. Serve it inside {case.spec.engine.trtllm.container.image}"


def _release(case: Case) -> str:
    found = case.machine.tensorrt_llm
    if not found or found == version():
        return ""
    return (
        f"TensorRT-LLM here is {found}, this project speaks to {version()}. "
        f"Use {case.spec.engine.trtllm.container.image}"
    )


def _backend(case: Case) -> str:
    wanted = case.spec.engine.trtllm.backend
    if case.gpu.backend == wanted:
        return ""
    return f"{case.engine} is of backend {case.gpu.backend}, engine.trtllm.backend asks for {wanted}. {_REBUILD}"


def _tensorrt_llm(case: Case) -> str:
    built, found = case.manifest.built_with.get("tensorrt_llm", ""), case.machine.tensorrt_llm
    if case.gpu.backend != "tensorrt" or not found or built == found:
        return ""
    return f"the engine was built by TensorRT-LLM {built}, here is {found}. {_REBUILD}"


def _tensorrt(case: Case) -> str:
    built, found = case.manifest.built_with.get("tensorrt", ""), case.machine.tensorrt
    if case.gpu.backend != "tensorrt" or not case.machine.tensorrt_llm or built == found:
        return ""
    return f"the engine was built by TensorRT {built}, here is {found or 'none'}. {_REBUILD}"


def _label(case: Case) -> str:
    label, found = case.machine.triton_release, case.machine.tensorrt
    listed = RELEASES.get(label)
    if not listed or not listed.tensorrt or not found or listed.tensorrt == found:
        return ""
    return (
        f"this container calls itself {label}, which has TensorRT {listed.tensorrt}, and TensorRT inside is {found}. "
        "Pull the image anew, and pin it by its digest"
    )


def _driver(case: Case) -> str:
    machine = case.machine
    oldest = oldest_driver(case.spec.engine.trtllm.container.image, machine.triton_release)
    return driver_fault(machine.driver, oldest, [gpu.name for gpu in machine.gpus])


def _gpus(case: Case) -> str:
    if case.machine.gpus:
        return ""
    return "nvidia-smi finds no GPU. Install the driver, and start the container with --gpus all"


def _count(case: Case) -> str:
    parallel, found = case.spec.engine.parallel, len(case.machine.gpus)
    wanted = min(parallel.gpus, case.spec.engine.trtllm.gpus_per_node)
    if not found or found >= wanted:
        return ""
    return (
        f"engine.parallel asks for {wanted} GPUs a machine, here are {found}. "
        "Show the container more (--gpus, CUDA_VISIBLE_DEVICES), or lower engine.parallel and run make engine"
    )


def _same(case: Case) -> str:
    names = sorted({gpu.name for gpu in case.machine.gpus})
    if len(names) < 2 or case.spec.engine.parallel.gpus == 1:
        return ""
    return (
        f"the GPUs are not alike: {', '.join(names)}. "
        "Set CUDA_VISIBLE_DEVICES to the UUIDs (nvidia-smi -L) of those of one kind"
    )


def _capability(case: Case) -> str:
    if not case.machine.gpus:
        return ""
    found = case.machine.gpus[0]
    if found.sm < OLDEST_SM:
        return (
            f"{found.name} is {generation(found.sm)}, TensorRT-LLM needs {generation(OLDEST_SM)} or newer. "
            "Use another GPU"
        )
    if case.gpu.backend == "tensorrt" and found.sm != case.gpu.sm:
        return (
            f"the engine was built for {generation(case.gpu.sm)} ({case.gpu.name}), {found.name} is "
            f"{generation(found.sm)}. Run make engine on this machine"
        )
    return ""


def _memory(case: Case) -> str:
    if not case.machine.gpus:
        return ""
    found = min(gpu.memory_gib for gpu in case.machine.gpus)
    if not found or found >= case.gpu.memory_gib:
        return ""
    return (
        f"the engine was built for GPUs of {case.gpu.memory_gib} GiB, the smallest here has {found}. "
        "Use such GPUs, or more of these with a higher engine.parallel.tensor"
    )


def _parallel(case: Case) -> str:
    wanted = case.spec.engine.parallel
    built = (case.gpu.tensor, case.gpu.pipeline, case.gpu.expert)
    if case.gpu.backend != "tensorrt" or built == (wanted.tensor, wanted.pipeline, wanted.expert):
        return ""
    return (
        f"the engine is split tensor {built[0]}, pipeline {built[1]}, expert {built[2]}; engine.parallel asks for "
        f"{wanted.tensor}, {wanted.pipeline}, {wanted.expert}. {_REBUILD}"
    )


def _ranks(case: Case) -> str:
    if case.gpu.backend != "tensorrt":
        return ""
    named = {f"{WEIGHTS}/rank{rank}.engine" for rank in range(case.gpu.tensor * case.gpu.pipeline)}
    missing = sorted(named - case.manifest.files.keys())
    return f"{case.engine} lacks {', '.join(missing)}. {_REBUILD}" if missing else ""


def _options(case: Case) -> str:
    wanted = wanted_options(case.spec)
    if case.gpu.backend != "tensorrt" or case.spec.engine.trtllm.backend != "tensorrt":
        return ""
    # Parallelism has a rule of its own.
    names = sorted(name for name in wanted.keys() | case.gpu.options.keys() if "parallel" not in name)
    differing = [
        f"{name} is {case.gpu.options.get(name)}, the config asks for {wanted.get(name)}"
        for name in names
        if case.gpu.options.get(name) != wanted.get(name)
    ]
    return f"built into the engine otherwise: {'; '.join(differing)}. {_REBUILD}" if differing else ""


def _tokenizer(case: Case) -> str:
    built = case.manifest.origin.tokenizer_sha256 if case.manifest.origin else ""
    path = case.engine / "tokenizer.json"
    if not built or not path.exists() or digest(path) == built:
        return ""
    return f"{path} is not the tokenizer that the engine was built with. Run make engine again"


def _shm(case: Case) -> str:
    gpus = min(case.spec.engine.parallel.gpus, case.spec.engine.trtllm.gpus_per_node)
    needed = gpus * _SHM_GIB_A_GPU * GIB
    if gpus == 1 or case.machine.shm_bytes >= needed:
        return ""
    return (
        f"shared memory (/dev/shm) has {case.machine.shm_bytes // 2**20} MiB, {gpus} GPUs need {needed // 2**20}. "
        f"Start the container with --ipc=host or --shm-size={needed // GIB}g"
    )


def _memlock(case: Case) -> str:
    if case.spec.engine.parallel.gpus == 1 or case.machine.memlock_bytes == UNLIMITED:
        return ""
    return (
        f"locked memory is limited to {case.machine.memlock_bytes // 1024} KiB, and GPUs register theirs. "
        "Start the container with --ulimit memlock=-1"
    )


def _launch(case: Case) -> str:
    gpus, per_node = case.spec.engine.parallel.gpus, case.spec.engine.trtllm.gpus_per_node
    if gpus <= per_node or case.machine.launched:
        return ""
    return (
        f"{gpus} GPUs are {gpus // per_node} machines, and this process was not started on all of them. "
        "Start it by what make deploy writes with TARGET=slurm or TARGET=shell"
    )


RULES: tuple[Callable[[Case], str], ...] = (
    _gpus,
    _driver,
    _label,
    _release,
    _backend,
    _tensorrt_llm,
    _tensorrt,
    _capability,
    _count,
    _same,
    _memory,
    _parallel,
    _ranks,
    _options,
    _tokenizer,
    _shm,
    _memlock,
    _launch,
    _installed,
)
