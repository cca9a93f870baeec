"""The files of a replica: a little of this Debian, a Python 3.12, an image's packages, the wheel's Triton."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.images.host import CODE, LIBRARIES, bubblewrap, find_python, uv
from tests.images.recipes import UBUNTU, Recipe

SPEAKERS = "/opt/double/site-packages"  # what runs the engine that speaks for a double; no image has it
SPEAKING = "/opt/double/engine"
# Debian packages whose programs every image has, as Ubuntu or Debian itself does.
_PROGRAMS = (
    *("bash", "coreutils", "dash", "debianutils", "diffutils", "findutils", "grep", "gzip", "hostname", "libc-bin"),
    *("login", "mawk", "mount", "ncurses-bin", "openssl", "perl-base", "procps", "sed", "tar", "util-linux"),
)
# What the images that compile have from Debian's gcc and binutils.
_COMPILER = ("as", "ld", "ld.bfd", "gcc*", "g++*", "x86_64-linux-gnu-*")
_COMPILED_WITH = ("/usr/include", "/usr/lib/gcc", "/usr/libexec/gcc")
_FOLDERS = (
    *(
        "dev",
        "etc/ld.so.conf.d",
        "etc/ssl",
        "etc/uv",
        "home",
        "media",
        "mnt",
        "opt",
        "proc",
        "root",
        "run",
        "srv",
        "sys",
    ),
    *("tmp", "usr/bin", "usr/lib/x86_64-linux-gnu", "usr/local/bin", "usr/local/lib", "usr/sbin", "usr/share"),
    *("var/lib", "var/log", "var/tmp"),
)
_NOT_OF_PYTHON = ("test", "idlelib", "tkinter", "turtledemo", "lib2to3", "site-packages", "dist-packages")
_TRITON = "nvidia-pytriton==0.7.0"
_SPEAKERS = ("openvino==2026.4.1", "openvino-genai==2026.4.1.0", "openvino-tokenizers==2026.4.1.0", "msgspec==0.22.0")
_IMPORTED = """
import importlib, importlib.util
names = (
    *("openai", "pip._internal.cli.main", "transformers.models.auto", "transformers.tokenization_utils_fast", "venv"),
    *("torch._inductor.compile_fx", "vllm.v1.engine.async_llm", "vllm.v1.worker.cpu_worker"),
    *("vllm.v1.worker.cpu_model_runner", "vllm.model_executor.models.llama"),
)
for name in names:
    if importlib.util.find_spec(name.partition(".")[0]):
        importlib.import_module(name)
"""


def binds() -> tuple[tuple[Path, str], ...]:
    """What every replica shows of this machine as it is: the C library and its kin, and whom to trust."""
    return (LIBRARIES, str(LIBRARIES)), (Path("/etc/ssl"), "/etc/ssl")


def packages(recipe: Recipe) -> str:
    """The folder of an image's packages, in the image; Ubuntu's Python has a name of its own for it."""
    ubuntu = recipe.python == "/usr" and not recipe.venv
    return UBUNTU if ubuntu else f"{recipe.venv or recipe.python}/lib/python3.12/site-packages"


def doubles(recipe: Recipe) -> list[Path]:
    """The doubles as they stand in this checkout, each package with its distribution."""
    found = (CODE / "tests" / "doubles").iterdir()
    return sorted(path for path in found if path.name.partition("-")[0] in recipe.doubles)


def make(recipe: Recipe, root: Path) -> None:
    """Fill a folder.

    Raises:
        subprocess.CalledProcessError: a package is not to be had; uv's words are on the terminal.
    """
    _debian(recipe, root)
    if recipe.compiles:
        _compiler(root)
    _python(recipe, root)
    if recipe.venv:
        _run(root, f"{recipe.python}/bin/python3.12", "-m", "venv", "--without-pip", recipe.venv)
    _install(root, packages(recipe), recipe.packages, day=recipe.day, overrides=recipe.overrides)
    _programs(root, packages(recipe), f"{recipe.venv}/bin" if recipe.venv else "/usr/local/bin", recipe)
    if recipe.triton:
        _triton(root)
    if recipe.uv:
        _install(root, "/opt/uv", (f"uv=={recipe.uv}",))
        _programs(root, "/opt/uv", "/usr/local/bin", recipe)
        shutil.rmtree(root / "opt" / "uv")
    if recipe.doubles:
        _install(root, SPEAKERS, _SPEAKERS)
        _within(root, SPEAKING).mkdir()
        for double in doubles(recipe):
            place = _within(root, packages(recipe)) / double.name
            place.mkdir() if double.is_dir() else place.touch()
    for script in recipe.entrypoint[:1]:
        if not (program := _within(root, script)).exists():
            program.parent.mkdir(parents=True)
            program.write_text('#!/bin/bash\n[[ $# -gt 0 ]] || exec /bin/bash\nexec "$@"\n')
            program.chmod(0o755)
    _run(root, "/usr/sbin/ldconfig")
    _run(root, f"{recipe.venv or recipe.python}/bin/python3.12", "-c", _IMPORTED)  # compiles what is imported


def _within(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _debian(recipe: Recipe, root: Path) -> None:
    """The folders, the programs, and what these read in /etc."""
    for name in _FOLDERS:
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / name).symlink_to(f"usr/{name}")
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    shutil.copytree("/usr/lib64", root / "usr" / "lib64", symlinks=True)
    for path in _listed(_PROGRAMS):
        alternative = path.is_symlink() and path.readlink().is_relative_to("/etc/alternatives")
        shutil.copy2(path, root / "usr" / path.parent.name / path.name, follow_symlinks=alternative)
    for name, program in (("awk", "mawk"), ("which", "which.debianutils")):
        (root / "usr" / "bin" / name).symlink_to(program)
    accounts = [("root", 0, "/root"), *((name, uid, f"/home/{name}") for name, uid in recipe.accounts.items())]
    etc = {
        "passwd": [f"{name}:x:{uid}:{uid}::{home}:/bin/bash" for name, uid, home in accounts],
        "group": [f"{name}:x:{uid}:" for name, uid, _ in accounts],
        "nsswitch.conf": ["hosts: files dns"],
        "ld.so.conf": ["include /etc/ld.so.conf.d/*.conf"],
        "ld.so.conf.d/libc.conf": ["/usr/local/lib"],
        # No image's: whom this machine trusts, which behind a proxy is not whom pip and uv trust by themselves.
        "pip.conf": ["[global]", "cert = /etc/ssl/certs/ca-certificates.crt"],
        "uv/uv.toml": ["native-tls = true"],
    }
    for name, lines in etc.items():
        (root / "etc" / name).write_text("".join(f"{line}\n" for line in lines))


def _compiler(root: Path) -> None:
    """This Debian's C and C++ compiler; nothing where it has none."""
    for path in sorted(found for pattern in _COMPILER for found in Path("/usr/bin").glob(pattern)):
        shutil.copy2(path, root / "usr" / "bin" / path.name, follow_symlinks=False)
    for folder in map(Path, _COMPILED_WITH):
        if folder.exists():
            shutil.copytree(folder, _within(root, str(folder)), symlinks=True, copy_function=_link)


def _listed(names: tuple[str, ...]) -> Iterator[Path]:
    """The programs of these packages, each once: what /bin has is /usr/bin's."""
    run = subprocess.run(["dpkg-query", "--listfiles", *names], capture_output=True, text=True, check=False)
    paths = [Path(line) for line in run.stdout.splitlines() if line.startswith("/")]
    found = {(path.parent.name, path.name): path for path in paths if path.parent.name in ("bin", "sbin")}
    return (path for path in found.values() if path.is_file())


def _python(recipe: Recipe, root: Path) -> None:
    """This machine's Python 3.12 where the image has its own; it finds its modules from where its program is."""
    found = find_python()
    assert found
    home = _within(root, recipe.python)
    shutil.copy2(found.program, home / "bin" / "python3.12")
    (home / "bin" / "python3").symlink_to("python3.12")
    shutil.copy2(found.library, home / "lib")
    left_out = _NOT_OF_PYTHON if recipe.ensurepip else (*_NOT_OF_PYTHON, "ensurepip")

    def ignored(folder: str, names: list[str]) -> list[str]:
        return [it for it in names if it in left_out or it.startswith("config-")] if folder == found.modules else []

    shutil.copytree(found.modules, home / "lib" / "python3.12", ignore=ignored, symlinks=True, copy_function=_link)
    if recipe.compiles:
        shutil.copytree(found.headers, home / "include" / "python3.12")
    if packages(recipe) == UBUNTU:  # this Python, which is not Ubuntu's, looks for it here
        _within(root, UBUNTU).mkdir(parents=True)
        (home / "lib" / "python3.12" / "site-packages").symlink_to(UBUNTU)


def _link(source: str, target: str) -> None:
    """A hard link, where the disk allows."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _install(root: Path, folder: str, wanted: tuple[str, ...], day: str = "", overrides: tuple[str, ...] = ()) -> None:
    """Put packages into a folder of the image.

    Args:
        day: with what they ask for, and nothing newer than that day; '' for them alone.
        overrides: instead of what they ask for.
    """
    python = find_python()
    assert python
    options = ["--exclude-newer", day] if day else ["--no-deps"]
    command = [uv(), "pip", "install", "--no-config", "--quiet", "--python", python.program]
    given = "\n".join(overrides)
    options = [*options, "--override", "/dev/stdin"] if overrides else options
    target = str(_within(root, folder))
    subprocess.run([*command, "--target", target, *options, *wanted], check=True, cwd="/", input=given, text=True)


def _programs(root: Path, folder: str, place: str, recipe: Recipe) -> None:
    """Bring the packages' programs to where PATH looks, for the image's Python."""
    python = f"{recipe.venv or recipe.python}/bin/python3.12"
    for program in _within(root, f"{folder}/bin").iterdir():
        first, newline, rest = program.read_bytes().partition(b"\n")
        if first.startswith(b"#!/"):
            program.unlink()  # a link to what uv keeps
            program.write_bytes(f"#!{python}".encode() + newline + rest)
            program.chmod(0o755)
        program.rename(_within(root, f"{place}/{program.name}"))
    _within(root, f"{folder}/bin").rmdir()


def _triton(root: Path) -> None:
    """The wheel's server, laid out as NVIDIA's build lays out its own; the loader knows its libraries, as there."""
    _install(root, "/opt/wheel", (_TRITON,))
    wheel, home = root / "opt" / "wheel" / "pytriton" / "tritonserver", root / "opt" / "tritonserver"
    home.mkdir()
    (wheel / "backends").rename(home / "backends")
    (root / "opt" / "wheel" / "nvidia_pytriton.libs").rename(home / "lib")
    programs = {"bin/tritonserver": "bin", "python_backend_stubs/3.12/triton_python_backend_stub": "backends/python"}
    for program, folder in programs.items():
        (home / folder).mkdir(exist_ok=True)
        copied = Path(shutil.copyfile(wheel / program, home / folder / Path(program).name))
        copied.chmod(0o755)
    shutil.rmtree(root / "opt" / "wheel")
    (root / "etc" / "ld.so.conf.d" / "tritonserver.conf").write_text("/opt/tritonserver/lib\n")


def _run(root: Path, *command: str) -> None:
    """Run a program of the unfinished replica, which it may write to."""
    shown = [word for source, target in binds() for word in ("--ro-bind", str(source), target)]
    words = [bubblewrap(), "--bind", str(root), "/", *shown, "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
    environment = {"PATH": "/usr/bin:/usr/sbin", "HOME": "/tmp", "TRANSFORMERS_VERBOSITY": "error"}
    subprocess.run([*words, "--chdir", "/", "--", *command], check=True, env=environment, stderr=subprocess.PIPE)
