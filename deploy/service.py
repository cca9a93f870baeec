"""One container, described once: as a service of a compose file and as the words of a ``run`` command."""

import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from contract.errors import SpecError

ContainerEngine = Literal["docker", "podman", "nerdctl"]
Condition = Literal["service_started", "service_healthy", "service_completed_successfully"]

SECRETS = "/run/secrets"
_LOG_SIZE = "50m"
_STOP_S = 10  # every container engine's default
_MEMLOCK, _STACK = -1, 64 << 20  # what NVIDIA asks for: pinned memory without a limit, and deep stacks


@dataclass(frozen=True)
class Mount:
    """A file or folder of the host, or a volume, in the container."""

    source: Path | str  # a path of the host, or a volume's name
    target: str
    writable: bool = False


@dataclass(frozen=True)
class Health:
    """How a container is found to be well; the command's exit code tells."""

    command: tuple[str, ...]
    start_s: int  # failures count from then on
    interval_s: int = 15
    timeout_s: int = 10
    retries: int = 3


@dataclass(frozen=True)
class Service:
    """One container. It has the host's network, so the spec's addresses mean within it what they mean outside."""

    name: str
    image: str
    command: tuple[str, ...] = ()  # (): the image's own
    instead: bool = False  # of what the image starts, to which the command would be arguments
    environment: dict[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    scratch: tuple[str, ...] = ()  # folders in memory, where programs may stand too
    secrets: dict[str, Path] = field(default_factory=dict)  # name in SECRETS -> the host's file
    user: str = ""  # '': the image's own
    capabilities: tuple[str, ...] = ()  # all others are dropped
    unconfined: bool = False  # an image that wants to be root and to write where it likes
    devices: tuple[str, ...] = ()  # of the host
    gpus: int = 0  # -1: every one
    cpus: int = 0  # 0: no limit
    shm: str = ""  # '': the container engine's default
    health: Health | None = None
    stop_s: int = _STOP_S  # from SIGTERM to SIGKILL
    once: bool = False  # it does its work and ends
    after: dict[str, Condition] = field(default_factory=dict)
    profile: str = ""  # '': always started
    workdir: str = ""


def compose(project: str, services: list[Service], folder: Path) -> dict[str, Any]:
    """The compose file, as data.

    Args:
        folder: where the file will stand; paths are relative to it.
    """
    secrets = {name: path for service in services for name, path in service.secrets.items()}
    volumes = {mount.source for service in services for mount in service.mounts if isinstance(mount.source, str)}
    file: dict[str, Any] = {"name": project, "services": {it.name: _composed(it, folder) for it in services}}
    if volumes:
        file["volumes"] = {name: {} for name in sorted(volumes)}
    if secrets:
        file["secrets"] = {name: {"file": _relative(path, folder)} for name, path in secrets.items()}
    return file


def _composed(service: Service, folder: Path) -> dict[str, Any]:
    """One service; what it does not need is left out."""
    health = service.health
    devices = {"driver": "nvidia", "count": "all" if service.gpus < 0 else service.gpus, "capabilities": ["gpu"]}
    body: dict[str, Any] = {
        "image": service.image,
        "profiles": [service.profile] if service.profile else None,
        "entrypoint" if service.instead else "command": [_escaped(word) for word in service.command],
        "working_dir": service.workdir,
        "user": service.user,
        "network_mode": "host",
        "init": True,
        "restart": "no" if service.once else "unless-stopped",
        "stop_grace_period": f"{service.stop_s}s" if service.stop_s != _STOP_S else None,
        "depends_on": {name: {"condition": condition} for name, condition in service.after.items()},
        "environment": {name: _escaped(value) for name, value in service.environment.items()},
        "volumes": [_bind(mount, folder) for mount in service.mounts],
        "tmpfs": [_tmpfs(path) for path in service.scratch],
        "secrets": list(service.secrets),
        "healthcheck": health
        and {
            "test": ["CMD", *map(_escaped, health.command)],
            "start_period": f"{health.start_s}s",
            "interval": f"{health.interval_s}s",
            "timeout": f"{health.timeout_s}s",
            "retries": health.retries,
        },
        "read_only": not service.unconfined,
        "cap_drop": None if service.unconfined else ["ALL"],
        "cap_add": list(service.capabilities),
        "devices": [f"{path}:{path}" for path in service.devices],
        "security_opt": ["no-new-privileges:true"],
        "shm_size": service.shm,
        "cpus": service.cpus,
        "ulimits": {"memlock": _MEMLOCK, "stack": _STACK} if service.gpus > 0 else None,
        "deploy": {"resources": {"reservations": {"devices": [devices]}}} if service.gpus else None,
        "logging": {"driver": "json-file", "options": {"max-size": _LOG_SIZE}},
    }
    return {key: value for key, value in body.items() if value}


def run_command(engine: ContainerEngine, project: str, service: Service, *, rootless: bool) -> list[tuple[str, ...]]:
    """The ``run`` command of a service, a tuple for each option with its value, the image and its command last."""
    ends = ("--rm",) if service.once else ("--detach", "--restart=unless-stopped")
    words: list[tuple[str, ...]] = [(engine, "run", *ends), ("--name", f"{project}-{service.name}")]
    words += [("--network", "host"), ("--init",)]
    if service.stop_s != _STOP_S:
        words.append(("--stop-timeout", str(service.stop_s)))
    if service.user:
        words.append(("--user", service.user))
    if not service.unconfined:
        words += [("--read-only",), ("--cap-drop", "ALL")]
    words.append(("--security-opt", "no-new-privileges"))
    if engine == "podman":
        words.append(("--security-opt", "label=disable"))  # SELinux leaves the user's own files as they are labelled
    if engine == "podman" and rootless:
        words.append(("--userns", "keep-id"))  # the user within is the user without
    words += [("--cap-add", name) for name in service.capabilities]
    words += [("--device", path) for path in service.devices]
    words += _resources(engine, service)
    words += [("--env", f"{name}={value}") for name, value in service.environment.items()]
    words += [("--volume", _bind(mount)) for mount in service.mounts]
    words += [("--volume", f"{path}:{SECRETS}/{name}:ro") for name, path in service.secrets.items()]
    words += [("--tmpfs", _tmpfs(path)) for path in service.scratch]
    if service.health:
        words += _health_options(service.health)
    if service.workdir:
        words.append(("--workdir", service.workdir))
    words += [("--log-driver", "json-file"), ("--log-opt", f"max-size={_LOG_SIZE}")]
    if service.instead:
        return [*words, ("--entrypoint", service.command[0]), (service.image,), service.command[1:]]
    return [*words, (service.image,), service.command]


def _resources(engine: ContainerEngine, service: Service) -> list[tuple[str, ...]]:
    words: list[tuple[str, ...]] = []
    if service.gpus < 0:
        words.append(("--device", "nvidia.com/gpu=all") if engine == "podman" else ("--gpus", "all"))
    elif service.gpus and engine == "podman":  # names devices (CDI), and knows no count
        words += [("--device", f"nvidia.com/gpu={number}") for number in range(service.gpus)]
    elif service.gpus:
        words.append(("--gpus", str(service.gpus)))
    if service.gpus > 0:
        words += [("--ulimit", f"memlock={_MEMLOCK}"), ("--ulimit", f"stack={_STACK}")]
    if service.shm:
        words.append(("--shm-size", service.shm))
    if service.cpus:
        words.append(("--cpus", str(service.cpus)))
    return words


def _health_options(health: Health) -> list[tuple[str, ...]]:
    return [
        ("--health-cmd", shlex.join(health.command)),
        ("--health-start-period", f"{health.start_s}s"),
        ("--health-interval", f"{health.interval_s}s"),
        ("--health-timeout", f"{health.timeout_s}s"),
        ("--health-retries", str(health.retries)),
    ]


def _bind(mount: Mount, folder: Path | None = None) -> str:
    """A mount in the short form; its path relative to ``folder`` where one is given and near."""
    source = mount.source
    if isinstance(source, Path):
        if ":" in str(source):
            raise SpecError(f"{source} has a colon, which no container engine can mount", fix="Move the project")
        source = _relative(source, folder) if folder else str(source)
    return f"{source}:{mount.target}" if mount.writable else f"{source}:{mount.target}:ro"


def _relative(path: Path, folder: Path) -> str:
    """A path as compose knows it for one: it begins with a dot, or with the root where nothing else is shared."""
    if os.path.commonpath((path, folder)) == "/":
        return str(path)
    relative = os.path.relpath(path, folder)
    return relative if relative.startswith(".") else f"./{relative}"


def _tmpfs(path: str) -> str:
    return f"{path}:exec,mode=1777"


def _escaped(word: str) -> str:
    """A word in which compose finds no variable."""
    return word.replace("$", "$$")
