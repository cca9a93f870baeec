"""What a figure was measured on: engine, versions, machine, command."""

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

from contract.checkout import ROOT
from contract.errors import ConchError
from contract.manifest import engines_root, load_manifest
from contract.spec import load_spec
from loadtests.command import head

_PACKAGES = ("locust", "gevent", "grpcio", "tritonclient", "nvidia-pytriton", "openvino", "openvino-genai")


def surroundings(deployment: Path | None) -> dict[str, Any]:
    """As report.json keeps it."""
    found: dict[str, Any] = {
        **head(),
        "python": platform.python_version(),
        "packages": packages(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }
    if deployment is None:
        return found
    spec = load_spec(deployment)
    found["deployment"] = spec.model_dump(mode="json", include={"name", "engine", "limits", "streaming"})
    if spec.source is not None:
        try:
            manifest = load_manifest((engines_root(ROOT, spec.name) / "current").resolve())
            found["engine"] = manifest.model_dump(mode="json", exclude={"files"})
        except ConchError as error:
            found["engine"] = {"unknown": str(error)}
    return found


def packages() -> dict[str, str]:
    """Versions of what serves and what loads."""
    return {name: version for name in _PACKAGES if (version := _version(name))}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
