"""Hugging Face checkpoint → vLLM engine: the checkpoint itself, which vLLM loads as it is."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from build.steps import reason
from contract.errors import BuildError
from contract.spec import EngineSpec

PACKAGES: tuple[str, ...] = ()  # the engine's bytes are the checkpoint's
RECIPE = 1  # raised whenever build() changes what it writes

_ROOT = Path(__file__).resolve().parent.parent
PYTHON = _ROOT / ".venv-vllm" / "bin" / "python"


def build(checkpoint: Path, engine: EngineSpec, folder: Path) -> None:
    """Link to the checkpoint's files where they are; those of a conversion are shared, not copied.

    Raises:
        BuildError: the tokenizer is no fast one, which the stages need.
    """
    for file in sorted(checkpoint.iterdir()):
        if file.is_symlink():
            (folder / file.name).symlink_to(file.resolve())
        else:
            os.link(file, folder / file.name)
    if not (folder / "tokenizer.json").exists():
        _write_fast_tokenizer(checkpoint, folder)


def _write_fast_tokenizer(checkpoint: Path, folder: Path) -> None:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    except Exception as error:  # tokenizers raises nothing narrower
        raise BuildError(
            f"the checkpoint's tokenizer cannot be loaded: {reason(error)}", fix="Download its files again"
        ) from None
    if not tokenizer.is_fast:
        raise BuildError("the checkpoint's tokenizer has no tokenizer.json", fix="Convert it to a fast tokenizer")
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))


def forced(engine: Path, spec: EngineSpec, windows: list[list[int]]) -> tuple[list[list[int]], float]:
    """The engine's most likely token at each position, and its mean loss on the text."""
    answer = _ask(engine, {"spec": spec.model_dump(mode="json"), "forced": windows})
    return answer["top1"], answer["loss"]


def greedy(config: Path, engine: Path, prompts: list[list[int]], max_tokens: int) -> list[list[int]]:
    """Greedy tokens through vLLM."""
    from contract.spec import load_spec

    spec = load_spec(config).engine
    answer = _ask(engine, {"spec": spec.model_dump(mode="json"), "prompts": prompts, "max_tokens": max_tokens})
    ids: list[list[int]] = answer["ids"]
    return ids


def _ask(engine: Path, question: dict[str, Any]) -> dict[str, Any]:
    """One question to python_backend.vllm.raw, in vLLM's own environment.

    Raises:
        BuildError: there is no such environment, or vLLM does not run the engine.
    """
    if not PYTHON.exists():
        raise BuildError(f"no vLLM at {PYTHON}", fix="Run make vllm first")
    run = subprocess.run(
        [PYTHON, "-m", "python_backend.vllm.raw", str(engine)],
        input=json.dumps(question) + "\n",
        capture_output=True,
        text=True,
        check=False,
        cwd=_ROOT,
    )
    if run.returncode:
        said = [line for line in run.stderr.strip().splitlines() if "Error" in line] or run.stderr.strip().splitlines()
        raise BuildError(f"vLLM does not run the engine: {said[-1] if said else f'exit status {run.returncode}'}")
    answer: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return answer
