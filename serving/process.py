"""The server's processes: started together, found again, killed together, and swept up after.

Triton's Python backend runs each stage in a stub process, and shares memory with it under a prefix
that is ours alone (triton.shm_prefix). That prefix stands on every one of those command lines, and in
the environment of all that an engine starts (MPI's ranks have sessions of their own, and outlive
the one that asked for them), which is how leftovers are told from anybody else's server.
"""

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from serving.triton import SHARED_MEMORY, Launch

STUB = "triton_python_backend_stub"
MARK = "CONCH_SERVER"  # a variable that says whose a process is
END_S = 10.0  # for a killed process to give back a GPU's memory
_GUARD = Path(__file__).with_name("guard.py")


@dataclass(frozen=True)
class Server:
    """A running Triton server and its process group."""

    process: asyncio.subprocess.Process
    prefix: str  # of its shared memory, and on the command line of every process of it

    @property
    def pid(self) -> int:
        """The server's process id, which is also its group's."""
        return self.process.pid

    @property
    def output(self) -> asyncio.StreamReader:
        """Its standard output and error, and its stubs'."""
        assert self.process.stdout is not None
        return self.process.stdout


@dataclass(frozen=True)
class Stub:
    """The process of one stage."""

    model: str
    process: psutil.Process

    def is_dead(self) -> bool:
        """True when it is gone, or has ended and nobody has reaped it."""
        return _is_dead(self.process)


async def start(launch: Launch, prefix: str) -> Server:
    """Start the server in a session of its own: a terminal's Ctrl-C does not reach it, our death does."""
    if launch.folder:
        launch.folder.mkdir(mode=0o700, exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(_GUARD), prefix, *launch.argv),
        cwd=launch.folder,
        env=launch.env | {MARK: prefix},
        stdin=asyncio.subprocess.PIPE,  # never written to: the guard waits for its end, which is ours
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        pass_fds=launch.pass_fds,
    )
    return Server(process, prefix)


async def keep_guarded(server: Server, interval_s: float) -> None:
    """Give a server another guard whenever its guard dies, until cancelled, which must not be before its end."""
    guard: psutil.Process | None = None
    while True:
        await asyncio.sleep(interval_s)
        begun = _has_begun(server)  # before the look for its guard, which was there first
        if guard is None or _is_dead(guard):
            guard = _guard_of(server)
        if guard is None and begun:
            another = await asyncio.create_subprocess_exec(  # held here: its pipe must stay open
                *(sys.executable, "-I", "-S", str(_GUARD), server.prefix, "--group", str(server.pid)),
                stdin=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
            with suppress(psutil.Error):
                guard = psutil.Process(another.pid)


def _has_begun(server: Server) -> bool:
    """Whether it is the command itself by now, so that its guard was there."""
    with suppress(psutil.Error):
        return str(_GUARD) not in psutil.Process(server.pid).cmdline()
    return False


def _guard_of(server: Server) -> psutil.Process | None:
    """The guard that a server began with, if it lives."""
    with suppress(psutil.Error):
        for child in psutil.Process(server.pid).children():
            with suppress(psutil.Error):
                if str(_GUARD) in child.cmdline():
                    return child
    return None


def stubs(server_pid: int) -> list[Stub]:
    """The stages' processes of a server."""
    found = []
    for child in _below(server_pid):
        with suppress(psutil.Error):
            command = child.cmdline()
            if command and Path(command[0]).name == STUB:
                found.append(Stub(_model_of(command), child))
    return found


def listens(server: Server, port: int) -> bool:
    """True once this very server, and no other, listens on a port."""
    try:
        connections = psutil.Process(server.pid).net_connections("tcp")
    except psutil.Error:
        return False
    return any(
        connection.status == psutil.CONN_LISTEN and tuple(connection.laddr)[1:2] == (port,)
        for connection in connections
    )


async def exit_code(server: Server) -> int:
    """Wait for the server's end. asyncio's own wait() would go on until its stubs have closed their output too."""
    while server.process.returncode is None:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    return server.process.returncode


async def exit_reason(server: Server) -> str:
    """Wait for the server's end, and say how it ended."""
    code = await exit_code(server)
    if code >= 0:
        return f"the server exited with code {code}"
    return f"the server was killed by {signal.Signals(-code).name}"


async def dead_stub(server: Server, interval_s: float) -> str:
    """Look at the stages' processes every ``interval_s`` seconds; say which one died."""
    stages = stubs(server.pid)
    while True:
        dead = [stage for stage in stages if stage.is_dead()]
        if dead:
            with suppress(TimeoutError):  # a dying server takes its stages along: name the cause
                return await asyncio.wait_for(exit_reason(server), interval_s / 4)
            return " and ".join(f"the process of {stage.model} (pid {stage.process.pid})" for stage in dead) + " died"
        await asyncio.sleep(interval_s)


def engines_s(server: Server, stage: str) -> float:
    """Seconds of the cores' time that a stage's engine has used, where it runs in a process of its own."""
    used = 0.0
    for child in (child for each in stubs(server.pid) if each.model == stage for child in _below(each.process.pid)):
        with suppress(psutil.Error):
            used += sum(child.cpu_times()[:2])
    return used


def close_memory(server: Server) -> None:
    """Keep others of this machine from its shared memory: prompts pass through it, and Triton opens it to all."""
    for region in SHARED_MEMORY.glob(f"{server.prefix}*"):
        with suppress(OSError):
            region.chmod(0o700 if region.is_dir() else 0o600)


def kill(server: Server) -> None:
    """Kill the server with every process of it, at once; sweep up, and return when a GPU is free of them."""
    family = _below(server.pid)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    _end(family)
    sweep(server.prefix)


def sweep(prefix: str) -> None:
    """Kill what still runs under this prefix, and remove the shared memory and the folder that the dead left behind."""
    _end([process for process in psutil.process_iter() if _is_of(process, prefix)])
    for left in SHARED_MEMORY.glob(f"{prefix}*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _below(pid: int) -> list[psutil.Process]:
    """All that a process has started, and what those have."""
    with suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []


def _is_of(process: psutil.Process, prefix: str) -> bool:
    with suppress(psutil.Error):
        return any(prefix in argument for argument in process.cmdline()) or process.environ().get(MARK) == prefix
    return False


def _end(processes: Collection[psutil.Process]) -> None:
    """Kill them and wait until they are gone, or until nothing more is to be expected."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
    deadline = time.monotonic() + END_S
    while not all(map(_is_dead, processes)) and time.monotonic() < deadline:
        time.sleep(0.02)


def _is_dead(process: psutil.Process) -> bool:
    """Whether it is gone, or only waits to be reaped; while one of its threads still ends, its ports are taken."""
    try:
        return not process.is_running() or (process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1)
    except psutil.NoSuchProcess:
        return True


def _model_of(command: list[str]) -> str:
    """The model's name in a stub's command line, which names REPOSITORY/MODEL/VERSION/model.py."""
    for argument in command[1:]:
        path = Path(argument)
        if path.name == "model.py" and len(path.parts) >= 3:
            return path.parts[-3]
    return "a stage"
