"""What one room starts of another: the arrows that imports do not show, each by the name that a user would give it."""

import subprocess
from pathlib import Path

from contract.checkout import ROOT
from contract.errors import BuildError

Program = tuple[str, str]

BUILD: Program = ("-m", "build")
REPOSITORY: Program = ("-m", "build.repository")
REFERENCE: Program = ("-m", "build.reference")
LAID_OVER: Program = ("-m", "build.laid_over")
SERVING: Program = ("-m", "serving")
FILTER: Program = ("-m", "serving.filter")
FOLLOW: Program = ("-m", "serving.follow")
GATEWAY: Program = ("-m", "gateway")
RELEASE: Program = ("-m", "release")
WORKER: Program = ("-m", "python_backend.worker")
RAW: Program = ("-m", "python_backend.raw")
RAW_OPENVINO: Program = ("-m", "python_backend.openvino.raw")
RAW_VLLM: Program = ("-m", "python_backend.vllm.raw")

# What a stage's model.py imports.
PREPROCESS = "python_backend.preprocess.model"
ENGINE = "python_backend.engine_model"
POSTPROCESS = "python_backend.postprocess.model"
UNARY = "python_backend.unary_model"


def built(builder: Path, config: Path, *words: str) -> str:
    """What make engine prints of a deployment: nothing, or with ``--apart`` the engine's folder.

    Args:
        builder: the Python that it runs in.

    Raises:
        BuildError: it cannot be built, or does not agree with its reference; in the words that make engine ends with.
    """
    command = [str(builder), *BUILD, str(config), *words]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode:
        said = [line for line in run.stderr.splitlines() if line.strip()] or [f"exit code {run.returncode}"]
        raise BuildError(said[-1].removeprefix("✗ "))
    return run.stdout.strip()
