"""What replicas are made with on this machine: bubblewrap, a Python 3.12, uv, and the cache that keeps them."""

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

CODE = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "conch" / "images"
LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
_UNPACKED = CACHE / "bubblewrap"
_ASK = """
import json, os, sys, sysconfig
get = sysconfig.get_config_var
folders = [get("LIBDIR"), os.path.join(get("LIBDIR"), get("MULTIARCH") or "")]
libraries = [path for folder in folders if os.path.exists(path := os.path.join(folder, "libpython3.12.so.1.0"))]
folders = [sysconfig.get_path("stdlib"), sysconfig.get_path("include")]
print(json.dumps([os.path.realpath(sys._base_executable), *folders, *libraries[:1]]))
"""


class Python(NamedTuple):
    """An interpreter: its program, the folders of its modules and of its headers, its shared library."""

    program: str
    modules: str
    headers: str
    library: str


@cache
def missing() -> str:
    """What this machine lacks of what replicas are made with; '' where it has all."""
    if not LIBRARIES.is_dir() or not shutil.which("dpkg-query"):
        return "replicas of images are made of Debian's or Ubuntu's own programs for x86-64, and here are none"
    if not bubblewrap():
        return "Debian's package bubblewrap is not here, nor to be had"
    tried = subprocess.run([bubblewrap(), "--ro-bind", "/", "/", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"bubblewrap makes no namespaces here: {tried.stderr.strip()}"
    if not find_python():
        return "replicas of images need a Python 3.12 with its shared library, on PATH, pyenv's or uv's"
    return "" if uv() else "replicas of images need uv, which make engine brings"


@cache
def bubblewrap() -> str:
    """The program, this machine's or Debian's, unpacked and not installed; '' where neither is to be had."""
    unpacked = _UNPACKED / "usr" / "bin" / "bwrap"
    if found := shutil.which("bwrap"):
        return found
    if not unpacked.exists():
        _UNPACKED.mkdir(parents=True, exist_ok=True)
        script = "apt-get download -qq bubblewrap && dpkg-deb --extract bubblewrap_*.deb . && rm bubblewrap_*.deb"
        subprocess.run(["sh", "-c", script], cwd=_UNPACKED, capture_output=True, check=False)
    return str(unpacked) if unpacked.exists() else ""


@cache
def find_python() -> Python | None:
    """A Python 3.12, the first of PATH's, pyenv's and uv's that has a shared library."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for program in (shutil.which("python3.12"), *map(str, sorted(pyenv.glob("3.12*/bin/python3.12"))), _uv_python()):
        said = _said(program, "-I", "-c", _ASK) if program else ""
        if said and len(found := json.loads(said)) == 4:
            return Python(*found)
    return None


@cache
def uv() -> str:
    """PATH's, or the Makefile's own; '' where there is none."""
    return shutil.which("uv") or shutil.which(CODE / ".uv" / "bin" / "uv") or ""


def _uv_python() -> str:
    return _said(uv(), "python", "find", "3.12") if uv() else ""


def _said(*command: str) -> str:
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    return run.stdout.strip() if run.returncode == 0 else ""
