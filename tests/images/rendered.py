"""A project's folder of its own: this checkout's rooms, engines of the test's, and what make deploy renders into it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from contract.spec import Deployment
from deploy.render import prepare, render, site, write
from tests.deploy.cases import CODE, TORCH
from tests.images import docker
from tests.images.machine import DOUBLES

_ROOMS = ("build", "clients", "contract", "gateway", "python_backend", "serving", "pyproject.toml", "uv.lock")


def checkout(root: Path) -> Path:
    """Make a folder the project's, with no engine and nothing rendered; its rooms are this checkout's."""
    for name in _ROOMS:
        (root / name).symlink_to(CODE / name)
    return root


def deploy(spec: Deployment, root: Path, image: str = "") -> Path:
    """What ``make deploy`` does; the folder that it writes.

    Args:
        image: of the server; '' for the runtime's first.
    """
    where = site(root, root / "deploy" / "rendered" / spec.name)
    write(render(spec, where, f"configs/{spec.name}.yaml", engine="docker", torch=TORCH, image=image), where.folder)
    prepare(spec, where)
    return where.folder


@contextmanager
def gpu_host(folder: Path) -> Iterator[None]:
    """What runs here finds docker, over replicas, and two H100s; none of their libraries."""
    folder.mkdir()
    docker.program(folder)
    shutil.copy(DOUBLES / "bin" / "nvidia-smi", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        yield
