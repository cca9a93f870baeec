"""The container engine, and whether it gives GPUs to its containers."""

import json
import re
from pathlib import Path
from typing import Any

from deploy.doctor.case import Case, Said, ask
from deploy.doctor.result import Result

_INFO = ("docker", "info", "--format", "{{json .}}")
_TOOLKIT = ("nvidia-ctk", "--version")
_CDI = (Path("/etc/cdi"), Path("/var/run/cdi"))


def check(case: Case) -> Result:
    """Docker, or podman where docker is not."""
    cdi = any(folder.is_dir() and any(folder.glob("nvidia*")) for folder in _CDI)
    return judge(case, ask(*_INFO), ask("podman", "--version"), ask(*_TOOLKIT), cdi=cdi)


def judge(case: Case, docker: Said, podman: Said, toolkit: Said, *, cdi: bool) -> Result:
    """The verdict, from what each of them says; ``cdi``: NVIDIA's devices are described for any engine."""
    info = _read(docker)
    if info:
        return _docker(case, info, toolkit, cdi=cdi)
    if podman.text:
        seen = podman.text.strip()
        if case.on_gpus and not cdi:
            return Result("containers", "warn", f"{seen}; GPUs are not described to it", "nvidia-ctk cdi generate")
        return Result("containers", "ok", seen)
    reason = docker.error or "docker info said nothing"
    if docker.absent:
        return Result("containers", "skipped", "neither docker nor podman: make serve needs none")
    return Result("containers", "warn", reason, "start docker's daemon, or be in its group; make serve needs none")


def _docker(case: Case, info: dict[str, Any], toolkit: Said, *, cdi: bool) -> Result:
    version = info["ServerVersion"]
    seen, same = f"docker {version}", {"docker": version}
    if not case.on_gpus:
        return Result("containers", "ok", seen, "", same)
    if "nvidia" not in (info.get("Runtimes") or {}) and not cdi:
        todo = "install nvidia-container-toolkit, nvidia-ctk runtime configure --runtime=docker, restart docker"
        return Result("containers", "warn", f"{seen}; it has no runtime nvidia", todo, same)
    found = re.search(r"version (\S+)", toolkit.text)
    if not found:
        return Result("containers", "ok", f"{seen} with GPUs", "", same)
    return Result("containers", "ok", f"{seen} with NVIDIA's toolkit {found[1]}", "", same | {"toolkit": found[1]})


def _read(docker: Said) -> dict[str, Any]:
    """The engine's own facts; some versions print empty ones, and succeed, where none answers."""
    try:
        info = json.loads(docker.text)
    except ValueError:
        return {}
    return info if isinstance(info, dict) and info.get("ServerVersion") else {}
