"""``python -m tests.images.docker``: the docker program's run, stop, kill, rm and version, over replicas.

What is not to end with the command (``--detach``) has a process of its own, as docker's containers have; $CONTAINERS is
the folder where those are known by name.
"""

import argparse
import os
import shlex
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import psutil

from tests.images.compose import Images, seconds, tmpfs
from tests.images.container import DEFAULT_CAPABILITIES, Bind, Container, ContainerError, Running
from tests.images.replicas import replica
from tests.images.service import Check, Life, Service

_SIZES = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_REFUSED = 125


def program(folder: Path) -> Path:
    """Make a ``docker`` in a folder for PATH; what it knows of containers is kept there too."""
    code = Path(__file__).resolve().parents[2]
    path = folder / "docker"
    words = shlex.join([sys.executable, "-m", "tests.images.docker"])
    path.write_text(
        f'#!/bin/sh\nexec env PYTHONPATH={shlex.quote(str(code))} CONTAINERS={shlex.quote(str(folder))} {words} "$@"\n'
    )
    path.chmod(0o755)
    return path


def service(words: list[str], image: Images = replica) -> tuple[Service, argparse.Namespace]:
    """What the words after ``docker run`` describe, and how they were understood.

    Raises:
        SystemExit: a word that is not known here.
    """
    said = _parser().parse_args(words)
    reference, *command = said.words
    found = image(reference)
    entrypoint = found.entrypoint if said.entrypoint is None else (said.entrypoint,)
    environment = {}
    for word in said.env:
        name, given, value = word.partition("=")
        if given or name in os.environ:
            environment[name] = value if given else os.environ[name]
    dropped = "ALL" in said.cap_drop
    container = Container(
        image=found,
        command=(*entrypoint, *command),
        environment=environment,
        workdir=said.workdir,
        user=said.user,
        binds=tuple(map(_bind, said.volume)),
        tmpfs=dict(map(tmpfs, said.tmpfs)),
        read_only=said.read_only,
        capabilities=(frozenset() if dropped else DEFAULT_CAPABILITIES) | frozenset(said.cap_add),
        devices=tuple(path for path in said.device if path.startswith("/")),
        shm=-1 if said.ipc == "host" else _size(said.shm_size),
        gpus=bool(said.gpus) or any(path.startswith("nvidia.com/gpu") for path in said.device),
        init=said.init,
        own_network=said.network != "host",
        limits=dict(map(_limit, said.ulimit)),
    )
    health = said.health_cmd and Check(
        ("/bin/sh", "-c", said.health_cmd),
        interval_s=seconds(said.health_interval),
        timeout_s=seconds(said.health_timeout),
        start_s=seconds(said.health_start_period),
        retries=said.health_retries,
    )
    return Service(said.name, container, health or None, said.restart, said.stop_timeout), said


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("docker run", allow_abbrev=False)
    for flag in ("rm", "detach", "init", "read-only"):
        parser.add_argument(f"--{flag}", action="store_true")
    for option in ("env", "volume", "tmpfs", "cap-drop", "cap-add", "device", "ulimit", "security-opt", "log-opt"):
        parser.add_argument(f"--{option}", action="append", default=[])
    for option in ("name", "workdir", "user", "gpus", "ipc", "pull", "cpus", "log-driver", "health-cmd"):
        parser.add_argument(f"--{option}", default="")
    for option, default in (("interval", "30s"), ("timeout", "30s"), ("start-period", "0s")):
        parser.add_argument(f"--health-{option}", default=default)
    parser.add_argument("--health-retries", type=int, default=3)
    parser.add_argument("--entrypoint")
    parser.add_argument("--network", default="bridge")
    parser.add_argument("--restart", default="no")
    parser.add_argument("--shm-size", default="64m")
    parser.add_argument("--stop-timeout", type=float, default=10)
    parser.add_argument("words", nargs=argparse.REMAINDER)
    return parser


def _bind(word: str) -> Bind:
    source, target, *options = word.split(":")
    return Bind(Path(source), target, "ro" not in options)


def _size(word: str) -> int:
    digits = word.lower().rstrip("b")
    return int(digits[:-1]) * _SIZES[digits[-1]] if digits[-1] in _SIZES else int(digits)


def _limit(word: str) -> tuple[str, tuple[int, int]]:
    name, _, values = word.partition("=")
    soft, _, hard = values.partition(":")
    return name, (int(soft), int(hard or soft))


def _run(words: list[str], known: Path) -> int:
    try:
        made, said = service(words)
    except (ContainerError, KeyError, ValueError) as error:
        return _refuse(str(error))
    entry = known / f"{made.name or os.getpid()}.container"
    if entry.exists():
        return _refuse(f'Conflict. The container name "/{made.name}" is already in use')
    if said.detach:
        return _detached(made, entry)
    entry.write_text(str(os.getpid()))
    try:
        running = Running(made.container, None)
        signal.signal(signal.SIGTERM, lambda *_: running.signal(signal.SIGTERM))
        signal.signal(signal.SIGINT, lambda *_: running.signal(signal.SIGINT))
        signal.signal(signal.SIGUSR1, lambda *_: running.kill())
        return running.wait()
    except ContainerError as error:
        return _refuse(str(error))
    finally:
        entry.unlink(missing_ok=True)


def _detached(made: Service, entry: Path) -> int:
    """Leave it to a process of its own; a refusal is told by the command itself."""
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        with os.fdopen(reader) as answer:
            said = answer.read()
        print(made.name)
        return _refuse(said) if said else 0
    os.setsid()
    os.close(reader)
    entry.write_text(str(os.getpid()))
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(quiet, stream)
    over = threading.Event()
    life = Life(made, entry.with_suffix(".log"), lambda: over.set() if life.status == "exited" else None)

    def stop(number: int, _: FrameType | None) -> None:
        threading.Thread(target=life.stop if number == signal.SIGTERM else life.kill).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGUSR1, stop)
    life.start()
    os.write(writer, life.error.encode())
    os.close(writer)
    over.wait()
    os._exit(0)


def _end(name: str, number: int, known: Path) -> int:
    """stop or kill: returns when it has ended."""
    entry = known / f"{name}.container"
    if not entry.exists():
        return _refuse(f"No such container: {name}")
    try:
        process = psutil.Process(int(entry.read_text()))
        process.send_signal(number)
        process.wait()
    except psutil.NoSuchProcess:
        pass
    return 0


def _refuse(why: str) -> int:
    print(f"docker: Error response from daemon: {why}", file=sys.stderr)
    return _REFUSED


def main(words: list[str]) -> int:
    """The program; its exit code."""
    known = Path(os.environ["CONTAINERS"])
    verb, *rest = words
    if verb == "run":
        return _run(rest, known)
    if verb in ("stop", "kill"):
        return _end(rest[-1], signal.SIGTERM if verb == "stop" else signal.SIGUSR1, known)
    if verb == "rm":
        (known / f"{rest[-1]}.container").unlink()
        return 0
    return 0 if verb == "version" else _refuse(f"nothing here does {verb}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
