"""Guides are compiled in a process that may die of them before the engine sees them.

A guide that cannot be compiled throws in OpenVINO's ``step()`` and leaves the pipeline unusable; one
that takes long to compile stops every stream meanwhile; one that nests deep enough overflows the
stack, here as in vLLM. So a request with a guide waits until another process has compiled it, within bounds.
"""

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections import OrderedDict
from contextlib import suppress
from hashlib import sha256
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import psutil

from contract.checkout import ROOT
from contract.engines.kinds import Runtime
from contract.errors import Unavailable
from contract.sampling import SamplingParams
from python_backend.engines import folder_of

MOST_CPU_S = 1  # of compiling: the engine spends as much again, and nothing else runs meanwhile
_KILLED_CPU_S = 3  # by the kernel; the difference is for measuring
_MOST_S = 10  # until an answer
_START_S = 90  # until the process is ready: vLLM's environment takes long to import
_REMEMBERED = 1024
_TRIES = 2
_END_S = 1.0
# How a process ends that a guide was too much for; any other end is somebody else's doing.
_OWN_DEATHS = {signal.SIGXCPU, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
_PYTHON = Path(sys.prefix) / "bin" / "python3"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SamplingParams).decode


class GuideProcess:
    """The engine's end. Not for several threads at once."""

    def __init__(self, engine: Path, runtime: Runtime) -> None:
        self._engine = engine
        self._runtime = runtime
        self._process: subprocess.Popen[bytes] | None = None
        self._known: OrderedDict[bytes, str] = OrderedDict()

    def refusal(self, sampling: SamplingParams) -> str:
        """Why this request's guide is refused; '' if it is not. Takes as long as compiling does.

        Raises:
            Unavailable: the process was lost, and its successor too, for what is not this guide's fault.
        """
        guide = f"{sampling.guided_decoding_guide_type} {sampling.guided_decoding_guide}"
        key = sha256(guide.encode()).digest()
        if key not in self._known:
            self._known[key] = self._ask(sampling)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return self._known[key]

    def stop(self) -> None:
        """End the process."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _ask(self, sampling: SamplingParams) -> str:
        for _ in range(_TRIES):
            refusal = self._answer(sampling)
            if refusal is not None:
                return refusal
        raise Unavailable("the process that compiles guides was lost", fix="Try again")

    def _answer(self, sampling: SamplingParams) -> str | None:
        """What one process says of a guide; None where it was lost, and the guide did not do it."""
        spent_s = 0.0
        try:
            if self._process is None or self._process.poll() is not None:
                self._start()
            spent_s = self._cpu_s()
            self._connection.send_bytes(_encode(sampling))
            if self._connection.poll(_MOST_S):
                return self._connection.recv_bytes().decode()
        except (EOFError, OSError):
            pass
        if self._process is None:  # it could not even be started
            return None
        at_fault = self._cpu_s() - spent_s > MOST_CPU_S if self._runs() else self._died_of_it()
        self.stop()
        return f"compiling it fails, or takes more than {MOST_CPU_S} s of CPU" if at_fault else None

    def _runs(self) -> bool:
        """Whether it still does; one that has hung up is given a moment to end."""
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        return self._process.returncode is None

    def _died_of_it(self) -> bool:
        assert self._process is not None
        return -(self._process.returncode or 0) in _OWN_DEATHS

    def _cpu_s(self) -> float:
        assert self._process is not None
        try:
            times = psutil.Process(self._process.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self._process = subprocess.Popen(
                [_PYTHON, "-m", __spec__.name, str(theirs.fileno()), str(self._engine), self._runtime],
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
            )
            self._connection = Connection(os.dup(ours.fileno()))
        if self._connection.poll(_START_S):
            self._connection.recv_bytes()


# xgrammar says where in its own source it stopped before it says why.
_WHERE = re.compile(r"^.*\.(?:cc|cpp|h|hpp):\d+:?\s*(?:Check failed: \(.*?\) is (?:true|false):?\s*)?", re.DOTALL)


def _reason(error: Exception) -> str:
    """Why xgrammar does not compile a guide, for the user."""
    said = str(error)
    if isinstance(error, UnicodeDecodeError):  # it quotes the guide's bytes, and stops within a character
        said = bytes(error.object).decode(errors="replace")
    return _WHERE.sub("", said).strip() or "it cannot be compiled"


def main() -> None:
    """``python -m python_backend.guides FD ENGINE RUNTIME``, started by GuideProcess."""
    connection, make = Connection(int(sys.argv[1])), folder_of(sys.argv[3]).compiler
    assert make
    compiler = make(Path(sys.argv[2]))
    connection.send_bytes(b"ready")
    while True:
        try:
            sampling = _decode(connection.recv_bytes())
        except EOFError:
            return
        before = time.process_time()
        resource.setrlimit(resource.RLIMIT_CPU, (int(before) + _KILLED_CPU_S, resource.RLIM_INFINITY))
        refusal = ""
        try:
            compiler.compile(sampling)
        except (RuntimeError, ValueError) as error:
            refusal = _reason(error)
        took = time.process_time() - before
        if not refusal and took > MOST_CPU_S:
            refusal = f"compiling it takes {took:.1f} s of CPU, the limit is {MOST_CPU_S}"
        connection.send_bytes(refusal.encode())


if __name__ == "__main__":
    main()
