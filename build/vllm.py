"""Hugging Face checkpoint → vLLM engine: the checkpoint itself, which vLLM loads as it is."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from build.adapters import adapter_fault, adapters_key, place_adapters
from build.builders import Replay, Script
from build.tokenizer import load_fast_tokenizer
from contract.errors import BuildError
from contract.manifest import this_machine
from contract.spec import Deployment

PACKAGES: tuple[str, ...] = ()  # the engine's bytes are the checkpoint's
RECIPE = 1  # raised whenever build() changes what it writes

_ROOT = Path(__file__).resolve().parent.parent
PYTHON = _ROOT / ".venv-vllm" / "bin" / "python"


def key(spec: Deployment) -> tuple[Any, ...]:
    """An engine is verified on the machine that runs it, under the options that it is served with."""
    machine = this_machine()
    options = spec.engine.vllm
    return machine.arch, machine.instruction_sets, options.model_dump(exclude={"lora"}), *adapters_key(options.lora)


def check(checkpoint: Path, spec: Deployment) -> None:
    """Refuse to begin where nothing could verify the engine.

    Raises:
        BuildError: vLLM is not installed, or cannot use an adapter.
    """
    if fault := adapter_fault(spec.engine.vllm.lora, "engine.vllm.lora"):
        raise BuildError(fault)
    if not PYTHON.exists():
        raise BuildError(f"no vLLM at {PYTHON}", fix="Run make vllm first")


def command(checkpoint: Path, spec: Deployment, folder: Path) -> list[str]:
    """Nothing: there is nothing to compile."""
    return []


def built_with(folder: Path) -> dict[str, str]:
    """Nothing made it: it is the checkpoint."""
    return {}


def target(folder: Path, spec: Deployment) -> None:
    """None: a checkpoint fits any GPU that has the room."""


def build(checkpoint: Path, spec: Deployment, folder: Path) -> None:
    """Link to the checkpoint's files where they are; those of a conversion are shared, not copied.

    Raises:
        BuildError: the tokenizer is no fast one, which the stages need.
    """
    for file in sorted(checkpoint.iterdir()):
        if file.is_symlink():
            (folder / file.name).symlink_to(file.resolve())
        else:
            os.link(file, folder / file.name)
    place_adapters(spec.engine.vllm.lora, folder)
    if not (folder / "tokenizer.json").exists():
        load_fast_tokenizer(checkpoint).backend_tokenizer.save(str(folder / "tokenizer.json"))


def replay(config: Path, spec: Deployment, engine: Path, script: Script) -> Replay:
    """Teacher forcing along the windows, then greedy search, both by vLLM itself.

    Raises:
        BuildError: vLLM does not run the engine.
    """
    engine_spec = spec.engine.model_dump(mode="json")
    forced = {"spec": engine_spec, "forced": script.windows}
    greedy = {"spec": engine_spec, "prompts": script.prompts, "max_tokens": script.max_tokens}
    said, answers = _ask(engine, forced, greedy)
    return Replay([dict(enumerate(row)) for row in said["top1"]], said["loss"], answers["ids"])


def _ask(engine: Path, *questions: dict[str, Any]) -> list[dict[str, Any]]:
    """Questions to python_backend.vllm.raw, in vLLM's own environment.

    Raises:
        BuildError: vLLM does not run the engine.
    """
    run = subprocess.run(
        [PYTHON, "-m", "python_backend.vllm.raw", str(engine)],
        input="".join(json.dumps(question) + "\n" for question in questions),
        capture_output=True,
        text=True,
        check=False,
        cwd=_ROOT,
    )
    if run.returncode:
        said = [line for line in run.stderr.strip().splitlines() if "Error" in line] or run.stderr.strip().splitlines()
        raise BuildError(f"vLLM does not run the engine: {said[-1] if said else f'exit status {run.returncode}'}")
    return [json.loads(line) for line in run.stdout.splitlines()]
