"""Where the Triton server is, and the command line that starts it.

Inside an NGC container it is the container's own; elsewhere the one in the nvidia-pytriton wheel,
whose Python backend needs a folder laid out as Triton expects it.
"""

import hashlib
import os
import secrets
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from contract.errors import ServeError
from contract.spec import Deployment
from contract.stage import ABORT_KEY, admin_key, run_dir

CONTAINER_TRITON = Path("/opt/tritonserver")
_IN_CONTAINER = CONTAINER_TRITON / "bin" / "tritonserver"
_THREADS = 32  # Triton's own default
# No client needs them, and each does harm: prompts read in shared memory, an engine killed through it, a log rewritten.
CLOSED = ("shared-memory", "model-repository", "trace", "logging")
ADMIN_HEADER = "conch-admin"  # opens them over HTTP
ADMIN_METADATA = f"triton-grpc-protocol-{ADMIN_HEADER}"  # and over gRPC
DOORS = "doors"  # the folder in a run's, for its user alone, of the sockets behind the filter
HTTP_DOOR, GRPC_DOOR = "http", "grpc:1"  # its gRPC puts the port behind the path
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
_BACKEND = "libtriton_python.so"
# The backend makes a folder at each start, and a killed server leaves it: in /tmp nobody can tell whose it was.
_ANYWHERE = b"/tmp/python_env_"
_WHERE_IT_RUNS = b"././/python_env_"  # as many bytes; the server's working folder goes when it does


@dataclass(frozen=True)
class Launch:
    """How to start the server: ``subprocess.Popen(launch.argv, env=launch.env, pass_fds=launch.pass_fds)``."""

    argv: list[str]
    env: dict[str, str]
    pass_fds: tuple[int, ...] = ()
    doors: Path | None = None  # where it listens behind the filter; None: on the spec's own ports
    folder: Path | None = None  # where it runs, made for it and gone with it; None: here

    def clear_doors(self) -> None:
        """Remove the sockets of a server that is gone: one that starts would not listen on them."""
        for left in self.doors.iterdir() if self.doors else ():
            left.unlink()


@dataclass(frozen=True)
class Triton:
    """A Triton server on this machine."""

    binary: Path
    backends: Path
    libraries: tuple[Path, ...]

    @property
    def of_the_wheel(self) -> bool:
        """Whether its front ends are those of October 2024, which hostile bytes can end."""
        return self.binary != _IN_CONTAINER


def is_container() -> bool:
    """Whether this is an NGC container, with a Triton of its own."""
    return _IN_CONTAINER.exists()


def find_triton(cache: Path) -> Triton:
    """The container's Triton, or the wheel's with its backend folder made under ``cache``.

    Raises:
        ServeError: neither is there, or the wheel has no stub for this Python.
    """
    if is_container():
        return Triton(_IN_CONTAINER, CONTAINER_TRITON / "backends", ())
    try:
        wheel = distribution("nvidia-pytriton")
    except PackageNotFoundError:
        raise ServeError(
            "no Triton server here", fix="Run make serve, which installs it, or use an NGC container"
        ) from None
    home = Path(str(wheel.locate_file("pytriton/tritonserver")))
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = home / "python_backend_stubs" / python / "triton_python_backend_stub"
    if not stub.exists():
        raise ServeError(
            f"nvidia-pytriton {wheel.version} has no stub for Python {python}", fix="Use Python 3.11 or 3.12"
        )
    backends = cache / f"triton-{wheel.version}-py{python}-own"
    if not backends.exists():
        unfinished = cache / f"{backends.name}.{os.getpid()}"
        shutil.copytree(home / "backends" / "python", unfinished / "python")
        shutil.copy(stub, unfinished / "python" / stub.name)
        (unfinished / "python" / stub.name).chmod(0o755)
        backend = unfinished / "python" / _BACKEND
        backend.write_bytes(backend.read_bytes().replace(_ANYWHERE, _WHERE_IT_RUNS))
        try:
            unfinished.rename(backends)
        except OSError:  # another server made it first
            shutil.rmtree(unfinished)
    binary = home / "bin" / "tritonserver"
    if not os.access(binary, os.X_OK):  # a container's environment is read-only
        binary.chmod(0o755)
    libpython = Path(sysconfig.get_config_var("LIBDIR"))
    return Triton(binary, backends, (home.parent.parent / "nvidia_pytriton.libs", libpython))


def shm_prefix(spec: Deployment, root: Path) -> str:
    """What the names of a deployment's shared memory begin with: its own, whatever else this machine serves."""
    return f"conch_{hashlib.sha256(f'{root.resolve()}/{spec.name}'.encode()).hexdigest()[:12]}_"


def launch(spec: Deployment, root: Path, exit_timeout_s: int = 30) -> Launch:
    """The command that serves a deployment whose repository is written.

    Raises:
        ServeError: no Triton, or no model repository.
    """
    repository = root / "model_repository" / spec.name
    if not repository.is_dir():
        raise ServeError(f"no model repository at {repository}", fix="Run make engine first")
    triton = find_triton(root / ".conch")
    ports = spec.ports
    flags = {
        "model-repository": repository,
        "backend-directory": triton.backends,
        "exit-timeout-secs": exit_timeout_s,
        "http-address": ports.host,
        "http-port": ports.http,
        "grpc-address": ports.host,
        "grpc-port": ports.grpc,
        "metrics-address": ports.host,
        "metrics-port": ports.metrics,
        "allow-gpu-metrics": "false",  # no stage of ours needs CUDA in the server; see docs/serving.md
        "pinned-memory-pool-byte-size": 0,
        "log-verbose": 0,
    }
    env = dict(os.environ)
    # The stub takes the first python3 on PATH and ignores PYTHONPATH.
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", "")])
    if triton.libraries:
        inherited = [env["LD_LIBRARY_PATH"]] if env.get("LD_LIBRARY_PATH") else []
        env["LD_LIBRARY_PATH"] = os.pathsep.join([*map(str, triton.libraries), *inherited])
    env["PYTHONUNBUFFERED"] = "1"
    env["HF_HUB_OFFLINE"] = "1"
    env["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
    key = admin_key(run_dir(root, spec.name)) or secrets.token_hex(16)  # nobody's without a supervisor
    closed = f"{','.join(CLOSED)}:{ADMIN_HEADER}={key}"
    argv = [
        str(triton.binary),
        f"--http-restricted-api={closed}",
        f"--grpc-restricted-protocol={closed}",
        "--disable-auto-complete-config",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix(spec, root)}",
        # A unary request holds one of these threads until its answer; more than the batch takes need not run at once.
        f"--backend-config=python,thread-pool-size={max(_THREADS, spec.limits.max_batch_size)}",
    ]
    doors, folder = None, None
    passed: tuple[int, ...] = ()
    if triton.of_the_wheel:
        folder = SHARED_MEMORY / f"{shm_prefix(spec, root)}folder"
        doors = run_dir(root, spec.name) / DOORS
        doors.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The kernel takes 107 bytes of a socket's path, so go through its folder.
        passed = (os.open(doors, os.O_PATH | os.O_DIRECTORY),)
        behind = f"unix:/proc/self/fd/{passed[0]}"
        flags |= {"http-address": f"{behind}/{HTTP_DOOR}", "grpc-address": f"{behind}/grpc", "grpc-port": 1}
        flags["grpc-header-forward-pattern"] = f"^{ABORT_KEY}$"
    return Launch(argv + [f"--{name}={value}" for name, value in flags.items()], env, passed, doors, folder)
