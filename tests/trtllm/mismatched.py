"""Engines and machines that do not fit, each with what ``make check`` says before any weight is read."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.engines.trtllm.check import mismatches, wanted_options
from contract.gpu_machine import UNLIMITED, FoundGpu, GpuMachine
from contract.manifest import GpuTarget, Machine, Manifest, Origin, digest, now
from contract.spec import Deployment
from tests.trtllm.specs import spec

GIB = 2**30
H100 = FoundGpu("NVIDIA H100 80GB HBM3", 90, 79)
A100 = FoundGpu("NVIDIA A100-SXM4-80GB", 80, 80)
HERE = GpuMachine(
    gpus=(H100, H100),
    driver="590.44.01",
    tensorrt_llm="1.2.1",
    tensorrt="10.14.1.48",
    triton_release="26.07",
    shm_bytes=64 * GIB,
    memlock_bytes=UNLIMITED,
    launched=False,
)
TWO = {"parallel": {"tensor": 2}}


@dataclass(frozen=True)
class Mismatch:
    """One of them: what is changed of an engine for two H100s, of the config and of the machine."""

    title: str
    said: str
    machine: dict[str, Any] = field(default_factory=dict)
    gpu: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    trtllm: dict[str, Any] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    tokenizer: str = "{}"


MISMATCHES: tuple[Mismatch, ...] = (
    Mismatch(
        "No GPU", "nvidia-smi finds no GPU. Install the driver, and start the container with --gpus all", {"gpus": ()}
    ),
    Mismatch(
        "A driver older than the image",
        "the driver is 525.85.12, the container needs 580 or newer. Update the driver",
        {"driver": "525.85.12"},
    ),
    Mismatch(
        "A container whose label is wrong",
        "this container calls itself 26.07, which has TensorRT 10.14.1.48, and TensorRT inside is 10.13.3.9. "
        "Pull the image anew, and pin it by its digest",
        {"tensorrt": "10.13.3.9"},
        manifest={"built_with": {"tensorrt_llm": "1.2.1", "tensorrt": "10.13.3.9"}},
    ),
    Mismatch(
        "A TensorRT-LLM that this project does not know",
        "TensorRT-LLM here is 1.4.0rc1, this project speaks to 1.2.1. "
        "Use nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3",
        {"tensorrt_llm": "1.4.0rc1"},
        manifest={"built_with": {"tensorrt_llm": "1.4.0rc1", "tensorrt": "10.14.1.48"}},
    ),
    Mismatch(
        "No TensorRT-LLM at all",
        "TensorRT-LLM is not installed here. Serve it inside nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3",
        {"tensorrt_llm": "", "tensorrt": "", "triton_release": ""},
    ),
    Mismatch(
        "An engine of the other backend",
        "ENGINE is of backend pytorch, engine.trtllm.backend asks for tensorrt. Run make engine for this config, "
        "in the container that serves it",
        gpu={"backend": "pytorch", "options": {}},
    ),
    Mismatch(
        "An engine of another TensorRT-LLM",
        "the engine was built by TensorRT-LLM 1.1.0, here is 1.2.1. Run make engine for this config, "
        "in the container that serves it",
        manifest={"built_with": {"tensorrt_llm": "1.1.0", "tensorrt": "10.14.1.48"}},
    ),
    Mismatch(
        "An engine of another TensorRT",
        "the engine was built by TensorRT 10.13.3.9, here is 10.14.1.48. Run make engine for this config, "
        "in the container that serves it",
        manifest={"built_with": {"tensorrt_llm": "1.2.1", "tensorrt": "10.13.3.9"}},
    ),
    Mismatch(
        "An engine for other GPUs",
        "the engine was built for sm90 (NVIDIA H100 80GB HBM3), NVIDIA A100-SXM4-80GB is sm80. "
        "Run make engine on this machine",
        {"gpus": (A100, A100)},
        trtllm={"gpu": None},
    ),
    Mismatch(
        "A GPU that is too old",
        "Tesla V100-SXM2-32GB is sm70, TensorRT-LLM needs sm80 or newer. Use another GPU",
        {"gpus": (FoundGpu("Tesla V100-SXM2-32GB", 70, 32),) * 2},
        gpu={"memory_gib": 32},
    ),
    Mismatch(
        "Too few GPUs",
        "engine.parallel asks for 2 GPUs a machine, here are 1. Show the container more (--gpus, "
        "CUDA_VISIBLE_DEVICES), "
        "or lower engine.parallel and run make engine",
        {"gpus": (H100,)},
    ),
    Mismatch(
        "GPUs of two kinds",
        "the GPUs are not alike: NVIDIA H100 80GB HBM3, NVIDIA H200. Set CUDA_VISIBLE_DEVICES to the UUIDs "
        "(nvidia-smi -L) of those of one kind",
        {"gpus": (H100, FoundGpu("NVIDIA H200", 90, 139))},
    ),
    Mismatch(
        "GPUs with less memory",
        "the engine was built for GPUs of 139 GiB, the smallest here has 79. Use such GPUs, or more of these with a "
        "higher engine.parallel.tensor",
        gpu={"name": "NVIDIA H200", "memory_gib": 139},
    ),
    Mismatch(
        "Another split over GPUs",
        "the engine is split tensor 2, pipeline 1, expert 1; engine.parallel asks for 1, 2, 1. "
        "Run make engine for this config, in the container that serves it",
        engine={"parallel": {"pipeline": 2}},
    ),
    Mismatch(
        "A rank that is missing",
        "ENGINE lacks trtllm/rank1.engine. Run make engine for this config, in the container that serves it",
        manifest={"files": {"trtllm/rank0.engine": 1}},
    ),
    Mismatch(
        "Limits beyond the engine's",
        "built into the engine otherwise: build_config.max_batch_size is 65, the config asks for 129. "
        "Run make engine for this config, in the container that serves it",
        limits={"max_batch_size": 128},
    ),
    Mismatch(
        "Options that are built in",
        "built into the engine otherwise: build_config.gather_generation_logits is False, the config asks for True; "
        "gather_generation_logits is False, the config asks for True. Run make engine for this config, in the "
        "container "
        "that serves it",
        trtllm={"log_probs": True},
    ),
    Mismatch(
        "Another tokenizer",
        "ENGINE/tokenizer.json is not the tokenizer that the engine was built with. Run make engine again",
        tokenizer='{"changed": true}',
    ),
    Mismatch(
        "Too little shared memory",
        "shared memory (/dev/shm) has 64 MiB, 2 GPUs need 2048. Start the container with --ipc=host or --shm-size=2g",
        {"shm_bytes": 64 * 2**20},
    ),
    Mismatch(
        "Too little locked memory",
        "locked memory is limited to 8192 KiB, and GPUs register theirs. Start the container with --ulimit memlock=-1",
        {"memlock_bytes": 8 * 2**20},
    ),
    Mismatch(
        "Several machines, started as one",
        "16 GPUs are 2 machines, and this process was not started on all of them. Start it by what make deploy "
        "writes with TARGET=slurm or TARGET=shell",
        {"gpus": (H100,) * 8},
        gpu={"tensor": 8, "pipeline": 2},
        manifest={"files": {f"trtllm/rank{rank}.engine": 1 for rank in range(16)}},
        engine={"parallel": {"tensor": 8, "pipeline": 2}},
    ),
)


def found(case: Mismatch, folder: Path) -> list[str]:
    """What is found, with ENGINE for the engine's folder."""
    (folder / "tokenizer.json").write_text("{}")
    built_for = spec(engine=TWO)
    manifest = engine_manifest(built_for, digest(folder / "tokenizer.json"))
    gpu = manifest.gpu
    assert gpu
    manifest = manifest.model_copy(update={"gpu": gpu.model_copy(update=case.gpu), **case.manifest})
    (folder / "tokenizer.json").write_text(case.tokenizer)
    wanted = spec(case.trtllm, engine=TWO | case.engine, limits=case.limits)
    machine = GpuMachine(**{name: getattr(HERE, name) for name in HERE.__dataclass_fields__} | case.machine)
    return [said.replace(str(folder), "ENGINE") for said in mismatches(folder, manifest, wanted, machine)]


def engine_manifest(deployment: Deployment, tokenizer_sha256: str) -> Manifest:
    """The manifest of an engine for two H100s."""
    parallel = deployment.engine.parallel
    return Manifest(
        deployment=deployment.name,
        version="v1",
        runtime="trtllm",
        precision=deployment.engine.precision,
        origin=Origin(
            source="huggingface:Qwen/Qwen3-0.6B@main",
            files={},
            architecture="Qwen3ForCausalLM",
            tokenizer_sha256=tokenizer_sha256,
            chat_template_sha256="",
        ),
        built_with={"tensorrt_llm": "1.2.1", "tensorrt": "10.14.1.48"},
        built_for=Machine(arch="x86_64", cpu="", instruction_sets=()),
        gpu=GpuTarget(
            backend=deployment.engine.trtllm.backend,
            image="nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3",
            name=H100.name,
            sm=90,
            memory_gib=79,
            tensor=parallel.tensor,
            pipeline=parallel.pipeline,
            expert=parallel.expert,
            options=wanted_options(deployment),
        ),
        max_position_embeddings=40960,
        vocab_size=151936,
        eos_token_ids=(2,),
        measured=None,
        built_at=now(),
        build_seconds=1.0,
        size_bytes=1,
        files={f"trtllm/rank{rank}.engine": 1 for rank in range(parallel.tensor * parallel.pipeline)},
    )
