"""A rendered compose file as services to run, by what Docker Compose itself reads in it (``config``)."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.deploy.tools import COMPOSE
from tests.images.container import DEFAULT_CAPABILITIES, Bind, Container
from tests.images.replicas import Replica
from tests.images.service import Check, Service

Images = Callable[[str], Replica]

_KNOWN = frozenset(
    "image profiles command entrypoint working_dir user network_mode init restart stop_grace_period depends_on "
    "environment volumes tmpfs secrets healthcheck read_only cap_drop cap_add devices security_opt shm_size cpus "
    "ulimits deploy logging".split()
)
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3}


def read(file: Path, image: Images, *profiles: str) -> dict[str, Service]:
    """The services that ``up`` would start, each after those that it waits for.

    Raises:
        ValueError: Compose refuses the file, or it has a key that would be left out here.
    """
    chosen = [word for profile in profiles for word in ("--profile", profile)]
    words = [str(COMPOSE), *chosen, "--file", str(file), "config", "--format", "json"]
    said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    if said.returncode:
        raise ValueError(said.stderr)
    project = json.loads(said.stdout)
    files = {name: Path(secret["file"]) for name, secret in project.get("secrets", {}).items()}
    found: dict[str, Service] = {}
    waiting = dict(project["services"])
    while waiting:
        name = next(name for name, body in waiting.items() if found.keys() >= (body.get("depends_on") or {}).keys())
        body = waiting.pop(name)
        if unknown := body.keys() - _KNOWN:
            raise ValueError(f"{file}: {name}: nothing here does {', '.join(sorted(unknown))}")
        found[name] = _service(name, body, files, image)
    return found


def _service(name: str, body: dict[str, Any], secrets: dict[str, Path], image: Images) -> Service:
    replica = image(body["image"])
    dropped = "ALL" in body.get("cap_drop", ())
    options = body.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", ())
    container = Container(
        image=replica,
        command=_command(replica, body),
        environment={key: value.replace("$$", "$") for key, value in (body.get("environment") or {}).items()},
        workdir=body.get("working_dir", ""),
        user=body.get("user", ""),
        binds=(
            *(_bind(mount) for mount in body.get("volumes", ())),
            *(Bind(secrets[it["source"]], it["target"]) for it in body.get("secrets", ())),
        ),
        tmpfs=dict(map(tmpfs, body.get("tmpfs", ()))),
        read_only=body.get("read_only", False),
        capabilities=(frozenset() if dropped else DEFAULT_CAPABILITIES) | frozenset(body.get("cap_add", ())),
        devices=tuple(it["source"] if isinstance(it, dict) else it.split(":")[0] for it in body.get("devices", ())),
        shm=int(body.get("shm_size", 64 << 20)),
        gpus=any("gpu" in it["capabilities"] for it in options),
        init=body.get("init", False),
        own_network=body.get("network_mode") != "host",
        limits={key: _limit(value) for key, value in body.get("ulimits", {}).items()},
    )
    found = body.get("healthcheck")
    return Service(
        name=name,
        container=container,
        health=_check(found) if found else None,
        restart=body.get("restart", "no"),
        stop_s=seconds(body.get("stop_grace_period", "10s")),
        after={key: value["condition"] for key, value in (body.get("depends_on") or {}).items()},
    )


def _command(image: Replica, body: dict[str, Any]) -> tuple[str, ...]:
    """An entrypoint of the service's own does away with the image's, and with the image's command."""
    entrypoint = image.entrypoint if body.get("entrypoint") is None else body["entrypoint"]
    return tuple(word.replace("$$", "$") for word in (*entrypoint, *(body.get("command") or ())))


def _bind(mount: dict[str, Any]) -> Bind:
    if mount["type"] != "bind":
        raise ValueError(f"{mount['target']}: nothing here does a mount of type {mount['type']}")
    return Bind(Path(mount["source"]), mount["target"], not mount.get("read_only", False))


def tmpfs(text: str) -> tuple[str, int]:
    """A folder in memory and its mode.

    Raises:
        ValueError: docker would let no program start in it, which bubblewrap cannot forbid.
    """
    path, _, options = text.partition(":")
    named = dict(option.partition("=")[::2] for option in options.split(","))
    if "exec" not in named:
        raise ValueError(f"{path}: nothing here does a tmpfs without exec")
    return path, int(named.get("mode", "1777"), 8)


def _check(body: dict[str, Any]) -> Check:
    how, *words = body["test"]
    return Check(
        ("/bin/sh", "-c", *words) if how == "CMD-SHELL" else tuple(word.replace("$$", "$") for word in words),
        interval_s=seconds(body.get("interval", "30s")),
        timeout_s=seconds(body.get("timeout", "30s")),
        start_s=seconds(body.get("start_period", "0s")),
        retries=body.get("retries", 3),
    )


def _limit(value: int | dict[str, int]) -> tuple[int, int]:
    return (value["soft"], value["hard"]) if isinstance(value, dict) else (value, value)


def seconds(text: str) -> float:
    """A duration as Go writes it: ``1m30s``."""
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ms|h|m|s)", text))
