"""The builder of runtime trtllm. Everything that TensorRT-LLM computes runs in another process (inside.py)."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from build import interrupt
from build.adapters import adapters_key, place_adapters
from build.drafts import draft_key, place_draft
from build.fetch import read_json
from build.replay import Replay, Script, replay_by_prefixes
from build.steps import console, key_of, quiet
from build.tokenizer import load_tokenizer
from build.trtllm.causes import cause
from build.trtllm.container import Mounts, check_running, find_program, in_place, targets
from build.trtllm.container import command as container_command
from build.trtllm.fit import check_model
from build.trtllm.inside import STAGE
from build.trtllm.over import lay_over
from contract.checkout import ROOT
from contract.engines.trtllm.api import version
from contract.engines.trtllm.arguments import WEIGHTS, build_call, serve_call
from contract.engines.trtllm.calls import to_json
from contract.engines.trtllm.check import wanted_options
from contract.engines.trtllm.lora import adapted_modules
from contract.engines.trtllm.options import TrtllmSpec
from contract.errors import BuildError
from contract.gpu_machine import FoundGpu, find_gpus
from contract.gpus import GPUS
from contract.manifest import GpuTarget
from contract.spec import Deployment

PACKAGES: tuple[str, ...] = ()  # of the image; its name is in the key
RECIPE = 1  # raised whenever build() changes what it writes
SIZE = 2

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "generation_config.json",
    "config.json",
)
_REPORT = "built.json"


def key(spec: Deployment) -> tuple[Any, ...]:
    """Versions, GPU and flags.

    Raises:
        BuildError: an engine is for one kind of GPU, and neither the spec nor this machine names one.
    """
    options = spec.engine.trtllm
    beside = [*adapters_key(options.lora), *draft_key(spec.engine)]
    gpu = _sm(options) if options.backend == "tensorrt" else ""
    image = "" if in_place() else options.container.image
    return options.backend, version(), image, gpu, wanted_options(spec), beside


def check(checkpoint: Path, spec: Deployment) -> None:
    """Refuse what TensorRT-LLM cannot take, by the checkpoint's JSON files, and what this machine cannot build."""
    check_model(checkpoint, spec)
    options = spec.engine.trtllm
    if options.backend == "tensorrt":
        _check_gpus(spec)
        if not in_place():
            check_running(find_program(options.container.program))


def command(checkpoint: Path, spec: Deployment, folder: Path) -> list[str]:
    """The container's command, as build() runs it."""
    if not checkpoint.exists():
        console.print("the checkpoint is not fetched yet: a volume for each folder that its links lead to comes then")
    return _command(_job(folder), checkpoint, spec, folder)


def build(checkpoint: Path, spec: Deployment, folder: Path) -> None:
    """Build the engine where TensorRT-LLM is; backend pytorch takes the checkpoint as it is.

    Raises:
        BuildError: with the cause, and where the whole log is.
    """
    options = spec.engine.trtllm
    _copy_tokenizer(checkpoint, folder)
    place_adapters(options.lora, folder)
    place_draft(spec.engine, folder)
    if options.backend == "pytorch":
        _place(checkpoint, folder / WEIGHTS)
        (folder / _REPORT).write_text("{}")
        return
    workspace = folder.parent / "workspace"
    shutil.rmtree(workspace, ignore_errors=True)
    workspace.mkdir(parents=True)
    kernels = _cache(folder) / f"timing-{_sm(options)}-{key_of(options.container.image)}.cache"
    kernels.parent.mkdir(parents=True, exist_ok=True)
    call = build_call(
        spec,
        checkpoint=str(checkpoint),
        folder=PurePosixPath(folder),
        workspace=str(workspace),
        kernels=str(kernels) if kernels.exists() else "",
        new_kernels=str(kernels),
        adapted=adapted_modules(options.lora, folder),
    )
    report = _run({"call": to_json(call), "save": str(folder / WEIGHTS), "prompts": []}, checkpoint, spec, folder)
    (folder / _REPORT).write_text(json.dumps(report))
    shutil.rmtree(workspace)


def built_with(folder: Path) -> dict[str, str]:
    """What the image had inside."""
    return {package: str(found) for package, found in read_json(folder / _REPORT).items() if found}


def target(folder: Path, spec: Deployment) -> GpuTarget:
    """The GPUs of this machine, for which it was built."""
    options, parallel = spec.engine.trtllm, spec.engine.parallel
    gpu = _gpu(options)
    return GpuTarget(
        backend=options.backend,
        image="" if in_place() else options.container.image,
        name=gpu.name if gpu else "",
        sm=gpu.sm if gpu else 0,
        memory_gib=gpu.memory_gib if gpu else 0,
        tensor=parallel.tensor,
        pipeline=parallel.pipeline,
        expert=parallel.expert,
        options=wanted_options(spec),
    )


def replay(config: Path, spec: Deployment, engine: Path, script: Script) -> Replay:
    """Greedy search through the LLM API; teacher forcing by a request of one token for each prefix.

    TensorRT-LLM tells the probabilities of a given text only of engines that keep every logit, so there is no loss.
    """

    adapted = adapted_modules(spec.engine.trtllm.lora, engine)

    def ask(prompts: list[tuple[list[int], int]]) -> list[list[int]]:
        job = {
            "call": to_json(serve_call(spec, PurePosixPath(engine), adapted)),
            "save": "",
            "prompts": prompts,
            "end_id": _end_id(engine),
        }
        answers: list[list[int]] = _run(job, engine, spec, engine)["answers"]
        return answers

    return replay_by_prefixes(script, ask)


def _run(job: dict[str, Any], checkpoint: Path, spec: Deployment, folder: Path) -> dict[str, Any]:
    """Carry out a job where TensorRT-LLM is, and return its report."""
    path, log, report = _job(folder), folder.parent / "trtllm.log", folder.parent / "trtllm.report.json"
    path.write_text(json.dumps(job | {"version": version(), "report": str(report)}))
    argv = _command(path, checkpoint, spec, folder)
    if argv[0] != sys.executable:
        check_running(argv[0])
        lay_over(_cache(folder))
        interrupt.containers[_name(spec)] = [argv[0], "kill", _name(spec)]
    _cache(folder).joinpath("home").mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    try:
        with (
            log.open("w") as kept,
            subprocess.Popen(
                argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", cwd=ROOT
            ) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                kept.write(line)
                lines.append(line.rstrip())
                if line.startswith(STAGE):
                    console.print(f"  {line.removeprefix(STAGE).strip()}")
    finally:
        interrupt.containers.pop(_name(spec), None)
    if process.returncode or not report.exists():
        said, fix = cause(lines, process.returncode)
        raise BuildError(f"TensorRT-LLM failed: {said}. Its whole log is {log}", fix=fix)
    written = read_json(report)
    report.unlink()
    return written


def _command(job: Path, checkpoint: Path, spec: Deployment, folder: Path) -> list[str]:
    options = spec.engine.trtllm
    dataset = Path(options.calibration.dataset).expanduser()
    local = [dataset] if options.backend == "tensorrt" and dataset.is_absolute() else []
    mounts = Mounts(read=(checkpoint, *targets(checkpoint), *local), write=(folder.parent,))
    return container_command(
        ["-m", "build.trtllm.inside", str(job)], _name(spec), options.container, mounts, _cache(folder)
    )


def _job(folder: Path) -> Path:
    return folder.parent / "trtllm.job.json"


def _name(spec: Deployment) -> str:
    return f"conch-build-{spec.name}"


def _cache(folder: Path) -> Path:
    """Beside the engines of every deployment: timing caches serve them all."""
    return folder.parent.parent.parent / ".trtllm"


def _gpu(options: TrtllmSpec) -> FoundGpu | None:
    """The GPU that is here, else the one that the spec names."""
    found, _ = find_gpus()
    if found:
        return found[0]
    named = GPUS.get(options.gpu or "")
    return FoundGpu(str(options.gpu), named.sm, named.memory_gib) if named else None


def _sm(options: TrtllmSpec) -> str:
    gpu = _gpu(options)
    if gpu is None:
        raise BuildError(
            "nvidia-smi finds no GPU here, and an engine is for one kind of GPU",
            fix="Run make engine on the machine that will serve, or set engine.trtllm.backend: pytorch",
        )
    return f"sm{gpu.sm}"


def _check_gpus(spec: Deployment) -> None:
    """Refuse to build on other GPUs, or on fewer, than the engine is for."""
    options, parallel = spec.engine.trtllm, spec.engine.parallel
    found, _ = find_gpus()
    if not found:
        raise BuildError(
            "nvidia-smi finds no GPU here, and TensorRT builds on the GPU that it builds for",
            fix="Run make engine on the machine that will serve",
        )
    if options.gpu and GPUS[options.gpu].sm != found[0].sm:
        raise BuildError(
            f"engine.trtllm.gpu is {options.gpu} (sm{GPUS[options.gpu].sm}), here is {found[0].name} (sm{found[0].sm})",
            fix="Build on such a machine, or correct engine.trtllm.gpu",
        )
    if len(found) < min(parallel.gpus, options.gpus_per_node):
        raise BuildError(
            f"engine.parallel asks for {parallel.gpus} GPUs, here are {len(found)}",
            fix="Build on such a machine, or lower engine.parallel",
        )


def _copy_tokenizer(checkpoint: Path, folder: Path) -> None:
    """Copy the tokenizer as it is: what this transformers would write, the image's older one cannot read."""
    with quiet():
        tokenizer = load_tokenizer(checkpoint)
    for name in _TOKENIZER_FILES:
        if (checkpoint / name).exists():
            shutil.copy(checkpoint / name, folder / name)
    if not (folder / "tokenizer.json").exists():
        raise BuildError("the checkpoint's tokenizer has no tokenizer.json", fix="Convert it to a fast tokenizer")
    template = folder / "chat_template.jinja"
    if isinstance(tokenizer.chat_template, str) and not template.exists():
        template.write_text(tokenizer.chat_template, encoding="utf-8")


def _place(checkpoint: Path, folder: Path) -> None:
    """The checkpoint's files as an engine: hard links where the disk allows, so that the engine is whole by itself."""
    folder.mkdir()
    for file in sorted(checkpoint.iterdir()):
        source = file.resolve()
        try:
            os.link(source, folder / file.name)
        except OSError:
            shutil.copyfile(source, folder / file.name)


def _end_id(engine: Path) -> int:
    """Any end of sequence: the LLM API insists on one without a tokenizer, and these answers ignore it."""
    named = read_json(engine / "config.json").get("eos_token_id")
    first = named[0] if isinstance(named, list) else named
    return int(first) if first is not None else 0
