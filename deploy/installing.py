"""How a container gets its Python environment: what installs it, from the lock file or over what an image has."""

import shlex
from pathlib import Path

from contract import programs
from contract.laid_over import GATEWAY, SERVER, WHEEL, requirements
from deploy.images import Image
from deploy.service import Mount, Service
from deploy.site import CODE, Site, parts, state_folder

_REQUIREMENTS = "/etc/conch/requirements.txt"
STATE = "/state"
VENV = f"{STATE}/venv"
PYTHON = f"{VENV}/bin/python"
SCRATCH = "/tmp"  # noqa: S108
ENVIRONMENT = {"HOME": SCRATCH, "USER": "conch", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
UV = {
    "UV_PROJECT_ENVIRONMENT": VENV,
    "UV_CACHE_DIR": f"{STATE}/cache",
    "UV_PYTHON_DOWNLOADS": "never",
}
# What the worker needs beside its engine, and an engine may not bring: pip leaves alone what the image has.
_IN_THE_WORKER = ("msgspec", "psutil", "pydantic", "pyyaml")
_LOCK = ("pyproject.toml", "uv.lock")


def installer(name: str, image: Image, site: Site) -> Service:
    """Installs the Python environment of an image, once; later starts find it done."""
    return Service(
        name=name,
        image=image.reference,
        command=shell(*into_venv(image)),
        instead=image.starts,
        environment=ENVIRONMENT | ({} if image.packages else UV),
        mounts=of_install(image, site, name),
        scratch=(SCRATCH,),
        user=site.user,
        once=True,
        workdir=CODE,
    )


def laid_over(image: Image, pyproject: Path, gateway: bool = False) -> str:
    """requirements.txt of what goes over an image's own environment; '' where all is installed from the lock.

    Args:
        gateway: whether it runs there too.
    """
    if not image.packages:
        return ""
    names = (*SERVER, *(() if image.triton else WHEEL), *(GATEWAY if gateway else ()))
    return "".join(f"{line}\n" for line in (*requirements(pyproject, names), *image.lacks))


def into_venv(image: Image, *lock: str) -> list[tuple[str, ...]]:
    """The commands that make the environment: from the lock, or over the image's own."""
    if not image.packages:
        return [("uv", "sync", "--frozen", "--no-default-groups", "--python", "python3", *lock)]
    over = ("python3", *programs.LAID_OVER)
    worker = [] if image.triton else [(*over, f"{STATE}/worker", *_IN_THE_WORKER)]
    return [*worker, (*over, VENV, "--requirement", _REQUIREMENTS)]


def of_install(image: Image, site: Site, state: str) -> tuple[Mount, ...]:
    """What says what to install, and where it goes."""
    wanted = parts(site, _LOCK)
    if image.packages:
        wanted = (Mount(site.folder / "requirements.txt", _REQUIREMENTS), *parts(site, ("build",)))
    return (*wanted, Mount(state_folder(site, state), STATE, writable=True))


def shell(*steps: tuple[str, ...]) -> tuple[str, ...]:
    """One command after the other, the last in the shell's place, so that it gets the signals."""
    if len(steps) == 1:
        return steps[0]
    *first, last = (shlex.join(step) for step in steps)
    return ("sh", "-c", " && ".join([*first, f"exec {last}"]))
