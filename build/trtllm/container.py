"""The command that runs the builder's script: in place where tensorrt_llm is importable, else in NVIDIA's image."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from build.trtllm.over import laid_over
from contract.checkout import ROOT
from contract.engines.trtllm.options import Container
from contract.errors import BuildError

PROGRAMS = ("docker", "podman", "nerdctl")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_HUB = ("HF_ENDPOINT", "HF_TOKEN")  # by name only: a token is never part of a command line


@dataclass(frozen=True)
class Mounts:
    """What the script sees of this machine, each under its own path."""

    read: tuple[Path, ...]
    write: tuple[Path, ...]


def in_place() -> bool:
    """Whether TensorRT-LLM is here."""
    return importlib.util.find_spec("tensorrt_llm") is not None


def find_program(wanted: str) -> str:
    """What runs containers here.

    Raises:
        BuildError: nothing does.
    """
    if wanted != "auto":
        if shutil.which(wanted):
            return wanted
        raise BuildError(
            f"engine.trtllm.container.program {wanted} is not on PATH", fix="Install it, or set program: auto"
        )
    found = next((program for program in PROGRAMS if shutil.which(program)), "")
    if not found:
        raise BuildError(
            "TensorRT-LLM is not installed here, and there is no docker, podman or nerdctl to run its image with",
            fix="Install one of them and the NVIDIA Container Toolkit, or run make engine inside the image",
        )
    return found


def check_running(program: str) -> None:
    """Refuse a container program that does not answer.

    Raises:
        BuildError: with what it says.
    """
    run = subprocess.run([program, "version"], capture_output=True, text=True, timeout=60, check=False)
    if run.returncode:
        said = (run.stderr or run.stdout).strip().splitlines()
        raise BuildError(
            f"{program} does not run: {said[-1] if said else f'exit status {run.returncode}'}",
            fix="Start its service, or add yourself to its group",
        )


def command(script: list[str], name: str, container: Container, mounts: Mounts, cache: Path) -> list[str]:
    """The whole command line; nothing of it is a secret.

    Args:
        script: what Python runs, a module of ours.
        name: of the container, by which it can be killed.
        cache: a folder for what TensorRT-LLM, Triton and the hub keep between builds.

    Raises:
        BuildError: nothing here runs containers.
    """
    if in_place():
        return [sys.executable, *script]
    program = find_program(container.program)
    environment = {
        "HOME": str(cache / "home"),
        "USER": "conch",  # the image knows no name of the user's id, and PyTorch asks for one
        "HF_HOME": str(cache / "huggingface"),
        "PYTHONPATH": f"{laid_over(cache)}:{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",  # podman's root is the user
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    if not container.network:
        environment |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    handed_on = (*_HUB, *(_PROXIES if container.proxy else ()))
    return [
        program,
        "run",
        "--rm",
        f"--name={name}",
        f"--pull={container.pull}",
        *_gpus(program),
        "--ipc=host",
        "--ulimit=memlock=-1",
        "--ulimit=stack=67108864",
        *_user(program),
        *([] if container.network else ["--network=none"]),
        *(f"--env={key}={value}" for key, value in environment.items()),
        *(f"--env={key}" for key in handed_on if os.environ.get(key)),
        *(f"--volume={path}:{path}:ro" for path in _distinct([ROOT, *mounts.read])),
        *(f"--volume={path}:{path}" for path in _distinct([cache, *mounts.write])),
        f"--workdir={ROOT}",
        container.image,
        "python3",
        *script,
    ]


def targets(folder: Path) -> list[Path]:
    """The folders that a folder's links lead through, so that they lead there inside too."""
    found: list[Path] = []
    for entry in folder.iterdir() if folder.exists() else ():
        path = entry
        while path.is_symlink():
            path = path.parent / path.readlink()
            found.append(path.parent.resolve())
    return found


def _gpus(program: str) -> list[str]:
    # Podman takes the toolkit's CDI names; docker and nerdctl have a flag of their own.
    return ["--device=nvidia.com/gpu=all"] if program == "podman" else ["--gpus=all"]


def _user(program: str) -> list[str]:
    """Files are written as the user who asked for them."""
    if program == "podman":
        return ["--userns=keep-id"]
    return [f"--user={os.getuid()}:{os.getgid()}"]


def _distinct(paths: Iterable[Path]) -> list[Path]:
    return sorted({path.absolute() for path in paths})
