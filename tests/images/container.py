"""One container of docker's, as far as the programs in it can tell, made with bubblewrap and without an engine.

What it is not: a cgroup (``cpus`` and memory have no limit), a seccomp filter, a writable image (where the root is not
read-only, /tmp, /var/tmp and /run are in memory and the image's own folders stay as they are).
"""

import json
import os
import resource
import shutil
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO

import psutil

from tests.images import machine
from tests.images.host import bubblewrap
from tests.images.replicas import Replica
from tests.images.root import root_of

_SUID = "/.runner"  # where a container finds what changes its user; docker's own is /sbin/docker-init
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SHM = 64 << 20
# What docker leaves to a container's root.
DEFAULT_CAPABILITIES = frozenset(
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL "
    "AUDIT_WRITE".split()
)


class ContainerError(Exception):
    """What docker would refuse to start, in its words where they are known."""


@dataclass(frozen=True)
class Bind:
    """A file or folder of the host."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True)
class Container:
    """What docker is told of a container.

    Args:
        command: what runs, the entrypoint first.
        environment: beside the image's.
        user: ``UID:GID``, a name of the image, or '' for the image's own.
        tmpfs: folders in memory -> their mode.
        capabilities: of root; another user has none.
        shm: bytes of /dev/shm; -1: the host's.
        gpus: whether the Container Toolkit puts the driver's files in.
        init: whether process 1 is a small init that hands signals on.
        limits: prlimit's names -> soft and hard limit; -1 is none.
    """

    image: Replica
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    workdir: str = ""
    user: str = ""
    binds: tuple[Bind, ...] = ()
    tmpfs: dict[str, int] = field(default_factory=dict)
    read_only: bool = False
    capabilities: frozenset[str] = DEFAULT_CAPABILITIES
    devices: tuple[str, ...] = ()
    shm: int = _SHM
    gpus: bool = False
    init: bool = True
    own_network: bool = False
    limits: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def ids(self) -> tuple[int, int]:
        """The user's and the group's number."""
        user, _, group = (self.user or self.image.user or "0").partition(":")
        accounts = [line.split(":") for line in _lines(self.image.root / "etc/passwd")]
        named = next((line for line in accounts if user in (line[0], line[2])), None)
        if named is None and not user.isdigit():
            raise ContainerError(f"unable to find user {user}: no matching entries in passwd file")
        uid = int(named[2]) if named else int(user)
        return uid, int(group) if group else int(named[3]) if named else 0

    @property
    def variables(self) -> dict[str, str]:
        """The whole environment."""
        home = next(
            (it[5] for it in map(_split, _lines(self.image.root / "etc/passwd")) if it[2] == str(self.ids[0])), "/"
        )
        made = {"PATH": _PATH, "HOME": home, "HOSTNAME": os.uname().nodename}
        return made | machine.variables() | self.image.environment | self.environment


class Running:
    """A started container.

    Args:
        log: takes what it says.

    Raises:
        ContainerError: docker would not have started it.
    """

    def __init__(self, container: Container, log: IO[bytes] | int | None, stdin: IO[bytes] | int | None = None) -> None:
        self._container = container
        reader, writer = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*_limited(container), *_bwrap(container, writer)],
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=log,
                stderr=subprocess.STDOUT if log is not None else None,
                env=container.variables,
                pass_fds=(writer,),
                start_new_session=True,
            )
        finally:
            os.close(writer)
        with os.fdopen(reader) as said:
            answer = said.read()
        if not answer:
            self._process.wait()
            raise ContainerError("bubblewrap could not make the container; its words are in the log")
        self.first: int = json.loads(answer)["child-pid"]

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, 128 and more for a signal.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        code = self._process.wait(timeout)
        return 128 - code if code < 0 else code

    def signal(self, number: int) -> None:
        """What ``docker kill --signal`` does."""
        try:
            process = psutil.Process(self.first)
            if self._container.init:
                process = min(process.children(), key=lambda child: child.pid, default=process)
            process.send_signal(number)
        except psutil.NoSuchProcess:
            pass

    def kill(self) -> None:
        """End all that runs in it, at once."""
        try:
            psutil.Process(self.first).kill()
        except psutil.NoSuchProcess:
            pass

    def execute(self, words: tuple[str, ...], timeout: float) -> subprocess.CompletedProcess[str]:
        """``docker exec``: a command in it, as its user.

        Raises:
            subprocess.TimeoutExpired: it took longer.
        """
        uid, gid = self._container.ids
        root = os.getuid() == 0
        into = ["nsenter", f"--target={self.first}", "--mount", "--pid", "--ipc"]
        into += [f"--setuid={uid}", f"--setgid={gid}"] if root else ["--user", "--preserve-credentials"]
        into += [f"--wd=/proc/{self.first}/root{self._workdir}"]
        return subprocess.run(
            [_host(into[0]), *into[1:], "--", *words],
            env=self._container.variables,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    @property
    def _workdir(self) -> str:
        return self._container.workdir or self._container.image.workdir or "/"


def _bwrap(container: Container, info: int) -> list[str]:
    """The whole command line."""
    uid, gid = container.ids
    root = os.getuid() == 0
    if not root and uid != os.getuid():
        raise ContainerError(f"only root can start a container of user {uid}")
    words = [bubblewrap(), "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--info-fd", str(info)]
    words += [] if container.init else ["--as-pid-1"]
    words += ["--unshare-net"] if container.own_network else []
    own = {str(path): path for path in machine.files()} | (machine.driver() if container.gpus else {})
    binds = [*(Bind(path, at) for at, path in own.items()), *(_suid() if root else ()), *container.binds]
    for bind in binds:
        if not bind.source.exists():
            # docker makes an empty folder of root's there, which no container of ours ever means.
            raise ContainerError(f"invalid mount config: bind source path does not exist: {bind.source}")
    memory = dict(container.tmpfs) | (
        {} if container.read_only else {"/tmp": 0o1777, "/var/tmp": 0o1777, "/run": 0o755}
    )
    shm = [] if container.shm < 0 else ["--perms", "1777", "--size", str(container.shm), "--tmpfs", "/dev/shm"]
    mounts = {path: ["--perms", f"{mode:o}", "--tmpfs", path] for path, mode in memory.items()}
    mounts |= {
        it.target: ["--bind" if it.writable else "--ro-bind", str(it.source.resolve()), it.target] for it in binds
    }
    words += root_of(container.image, {*mounts, "/proc", "/dev", "/sys"})
    words += ["--proc", "/proc", "--dev", "/dev", "--ro-bind", "/sys", "/sys"]
    words += shm or ["--bind", "/dev/shm", "/dev/shm"]
    for _, mount in sorted(mounts.items()):
        words += mount
    for device in container.devices:
        words += ["--dev-bind", device, device]
    workdir = container.workdir or container.image.workdir or "/"
    words += ["--dir", workdir, "--chdir", workdir] if workdir != "/" else ["--chdir", "/"]
    words += ["--remount-ro", "/"] if container.read_only else []
    return [*words, "--", *(_changed(uid, gid, container.capabilities) if root else ()), *container.command]


def _changed(uid: int, gid: int, capabilities: frozenset[str]) -> list[str]:
    """What becomes the container's user and then its command; from the host, as no image need have it."""
    kept = ",".join(["-all", *(f"+{name.lower()}" for name in sorted(capabilities))])
    loader, *_ = _libraries()
    return [
        f"{_SUID}/{loader.name}",
        "--library-path",
        _SUID,
        f"{_SUID}/setpriv",
        f"--reuid={uid}",
        f"--regid={gid}",
        "--clear-groups",
        "--inh-caps=-all",
        f"--bounding-set={kept}",
    ]


def _suid() -> list[Bind]:
    return [Bind(file, f"{_SUID}/{file.name}") for file in (*_libraries(), Path(_host("setpriv")))]


@cache
def _libraries() -> list[Path]:
    """What setpriv needs, the loader first."""
    said = subprocess.run(["ldd", _host("setpriv")], capture_output=True, text=True, check=True).stdout
    found = [Path(word) for line in said.splitlines() for word in line.split() if word.startswith("/")]
    return sorted(found, key=lambda path: not path.name.startswith("ld-"))


def _limited(container: Container) -> list[str]:
    """prlimit, with as much of each limit as this machine may give."""
    options = []
    for name, (soft, hard) in container.limits.items():
        _, most = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))
        soft, hard = (_less(limit, most) for limit in (soft, hard))
        options.append(f"--{name}={_word(soft)}:{_word(hard)}")
    return [_host("prlimit"), *options] if options else []


def _less(limit: int, most: int) -> int:
    return most if limit < 0 else limit if most < 0 else min(limit, most)


def _word(limit: int) -> str:
    return "unlimited" if limit < 0 else str(limit)


def _host(tool: str) -> str:
    """A program of the host by its whole path: the environment is the container's already."""
    found = shutil.which(tool)
    if not found:
        raise ContainerError(f"{tool} is not here")
    return found


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _split(line: str) -> list[str]:
    return line.split(":")
