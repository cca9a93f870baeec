"""An engine of TensorRT-LLM against the machine that wants to serve it: a table of what must agree.

TensorRT says little when these do not, or hangs (docs/troubleshooting.md): so everything is compared before
any weight is read. A rule yields what does not fit and the way out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from contract.driver import driver_fault
from contract.engines.trtllm.api import version
from contract.engines.trtllm.arguments import WEIGHTS, build_call
from contract.engines.trtllm.calls import Call, Member, to_json
from contract.engines.trtllm.images import RELEASES, oldest_driver
from contract.gpu_machine import UNLIMITED, GpuMachine
from contract.gpus import OLDEST_SM
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
    rules = (_driver, _software, _gpus, _split, _options, _container)
    return [fault for rule in rules for fault in rule(case)]


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


def _driver(case: Case) -> Iterator[str]:
    machine = case.machine
    if not machine.gpus:
        yield "nvidia-smi finds no GPU. Install the driver, and start the container with --gpus all"
    oldest = oldest_driver(case.spec.engine.image, machine.triton_release)
    if fault := driver_fault(machine.driver, oldest, [gpu.name for gpu in machine.gpus]):
        yield fault


def _software(case: Case) -> Iterator[str]:
    machine, engine, built = case.machine, case.spec.engine, case.manifest.built_with
    listed = RELEASES.get(machine.triton_release)
    if listed and listed.tensorrt and machine.tensorrt and listed.tensorrt != machine.tensorrt:
        yield (
            f"this container calls itself {machine.triton_release}, which has TensorRT {listed.tensorrt}, and TensorRT "
            f"inside is {machine.tensorrt}. Pull the image anew, and pin it by its digest"
        )
    found = machine.tensorrt_llm
    if found and found != version():
        yield f"TensorRT-LLM here is {found}, this project speaks to {version()}. Use {engine.image}"
    wanted = engine.trtllm.backend
    if case.gpu.backend != wanted:
        yield f"{case.engine} is of backend {case.gpu.backend}, engine.trtllm.backend asks for {wanted}. {_REBUILD}"
    if case.gpu.backend != "tensorrt" or not found:
        return
    if (by := built.get("tensorrt_llm", "")) != found:
        yield f"the engine was built by TensorRT-LLM {by}, here is {found}. {_REBUILD}"
    if (by := built.get("tensorrt", "")) != machine.tensorrt:
        yield f"the engine was built by TensorRT {by}, here is {machine.tensorrt or 'none'}. {_REBUILD}"


def _gpus(case: Case) -> Iterator[str]:
    if not case.machine.gpus:
        return
    gpus, parallel = case.machine.gpus, case.spec.engine.parallel
    first = gpus[0]
    if first.sm < OLDEST_SM:
        yield f"{first.name} is sm{first.sm}, TensorRT-LLM needs sm{OLDEST_SM} or newer. Use another GPU"
    elif case.gpu.backend == "tensorrt" and first.sm != case.gpu.sm:
        yield (
            f"the engine was built for sm{case.gpu.sm} ({case.gpu.name}), {first.name} is sm{first.sm}. "
            "Run make engine on this machine"
        )
    wanted = min(parallel.gpus, case.spec.engine.trtllm.gpus_per_node)
    if len(gpus) < wanted:
        yield (
            f"engine.parallel asks for {wanted} GPUs a machine, here are {len(gpus)}. "
            "Show the container more (--gpus, CUDA_VISIBLE_DEVICES), or lower engine.parallel and run make engine"
        )
    names = sorted({gpu.name for gpu in gpus})
    if len(names) > 1 and parallel.gpus > 1:
        yield (
            f"the GPUs are not alike: {', '.join(names)}. "
            "Set CUDA_VISIBLE_DEVICES to the UUIDs (nvidia-smi -L) of those of one kind"
        )
    smallest = min(gpu.memory_gib for gpu in gpus)
    if smallest and smallest < case.gpu.memory_gib:
        yield (
            f"the engine was built for GPUs of {case.gpu.memory_gib} GiB, the smallest here has {smallest}. "
            "Use such GPUs, or more of these with a higher engine.parallel.tensor"
        )


def _split(case: Case) -> Iterator[str]:
    wanted, gpu = case.spec.engine.parallel, case.gpu
    if gpu.backend != "tensorrt":
        return
    if (gpu.tensor, gpu.pipeline, gpu.expert) != (wanted.tensor, wanted.pipeline, wanted.expert):
        yield (
            f"the engine is split tensor {gpu.tensor}, pipeline {gpu.pipeline}, expert {gpu.expert}; engine.parallel "
            f"asks for {wanted.tensor}, {wanted.pipeline}, {wanted.expert}. {_REBUILD}"
        )
    named = {f"{WEIGHTS}/rank{rank}.engine" for rank in range(gpu.tensor * gpu.pipeline)}
    if missing := sorted(named - case.manifest.files.keys()):
        yield f"{case.engine} lacks {', '.join(missing)}. {_REBUILD}"


def _options(case: Case) -> Iterator[str]:
    if case.gpu.backend == case.spec.engine.trtllm.backend == "tensorrt":
        wanted, built = wanted_options(case.spec), case.gpu.options
        differing = [
            f"{name} is {built.get(name)}, the config asks for {wanted.get(name)}"
            for name in sorted(wanted.keys() | built.keys())
            if built.get(name) != wanted.get(name) and "parallel" not in name  # which has a rule of its own
        ]
        if differing:
            yield f"built into the engine otherwise: {'; '.join(differing)}. {_REBUILD}"
    tokenizer = case.manifest.origin.tokenizer_sha256 if case.manifest.origin else ""
    path = case.engine / "tokenizer.json"
    if tokenizer and path.exists() and digest(path) != tokenizer:
        yield f"{path} is not the tokenizer that the engine was built with. Run make engine again"


def _container(case: Case) -> Iterator[str]:
    gpus, node, machine = case.spec.engine.parallel.gpus, case.spec.engine.trtllm.gpus_per_node, case.machine
    here = min(gpus, node)
    needed = here * _SHM_GIB_A_GPU * GIB
    if here > 1 and machine.shm_bytes < needed:
        yield (
            f"shared memory (/dev/shm) has {machine.shm_bytes // 2**20} MiB, {here} GPUs need {needed // 2**20}. "
            f"Start the container with --ipc=host or --shm-size={needed // GIB}g"
        )
    if gpus > 1 and machine.memlock_bytes != UNLIMITED:
        yield (
            f"locked memory is limited to {machine.memlock_bytes // 1024} KiB, and GPUs register theirs. "
            "Start the container with --ulimit memlock=-1"
        )
    if gpus > node and not machine.launched:
        yield (
            f"{gpus} GPUs are {gpus // node} machines, and this process was not started on all of them. "
            "Start it by what make deploy writes with TARGET=slurm or TARGET=shell"
        )
    if not machine.tensorrt_llm:
        yield f"TensorRT-LLM is not installed here. Serve it inside {case.spec.engine.image}"
