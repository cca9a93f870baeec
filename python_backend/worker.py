"""An engine in a process of its own, behind the same protocol.

For engines that hold Python's interpreter lock while they compute (OpenVINO GenAI does, for the whole
of ``step()``): in the stage's own process they would stop Triton's threads for most of the time. And for
those that need another Python environment than Triton's stub (vLLM, SGLang and LMDeploy want numpy 2). One
message a step crosses the socket, whatever the number of streams.
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import psutil

from contract.checkout import ROOT
from contract.errors import ConchError, Unavailable
from contract.sampling import SamplingParams
from contract.stage import StageConfig
from python_backend import engines
from python_backend.frames import Frames
from python_backend.protocol import Engine, Output, Sink, Stats, failed


class Submit(msgspec.Struct, tag=True, frozen=True):
    """stage → worker: a request."""

    key: int
    input_ids: list[int]
    sampling: SamplingParams


class Abort(msgspec.Struct, tag=True, frozen=True):
    """stage → worker: stop it."""

    key: int


class Ready(msgspec.Struct, tag=True, frozen=True):
    """worker → stage, first: the engine is loaded, and what it can do."""

    name: str
    features: frozenset[str]


class Failed(msgspec.Struct, tag=True, frozen=True):
    """worker → stage, first: the engine could not be loaded."""

    reason: str


class Step(msgspec.Struct, tag=True, frozen=True):
    """worker → stage: one engine step."""

    outputs: list[Output]
    stats: Stats
    sent_at: float  # time.monotonic(), which all processes of a machine share


_encode = msgspec.msgpack.Encoder().encode
_decode_order = msgspec.msgpack.Decoder(Submit | Abort).decode
_decode_report = msgspec.msgpack.Decoder(Ready | Failed | Step).decode


def interpreter(config: StageConfig) -> Path:
    """The Python that an engine runs in: its own environment where the Makefile made one, else the stage's."""
    own = ROOT / f".venv-{config.spec.engine.runtime}" / "bin" / "python"
    return own if own.exists() else Path(sys.prefix) / "bin" / "python3"  # sys.executable is Triton's stub here


def _environment() -> dict[str, str]:
    """Ours without the libraries of Triton's wheel, which are not the engine's."""
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    kept = [each for each in libraries if each and Path(each).name != "nvidia_pytriton.libs"]
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(kept)}


class EngineWorker:
    """The stage's end."""

    name = ""
    features: frozenset[str] = frozenset()

    def __init__(self, config: StageConfig) -> None:
        self._config = config
        self._stats = Stats()
        self._in_flight: set[int] = set()
        self._lock = threading.Lock()
        self._died = False
        self._lag_s = 0.0

    def start(self, sink: Sink) -> None:
        """Start the worker and wait until its engine is loaded.

        Raises:
            Unavailable: with the engine's reason.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [interpreter(self._config), "-m", __spec__.name, str(theirs.fileno()), self._config.to_json()],
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
                env=_environment(),
            )
        self._socket, self._frames = ours, Frames(ours)
        said = iter(self._frames)
        first = next(said, None)
        report = (
            _decode_report(first) if first else Failed(f"the engine's process died with code {self._process.wait()}")
        )
        if isinstance(report, Failed):
            raise Unavailable(f"the engine could not be loaded: {report.reason}")
        assert isinstance(report, Ready)
        self.name, self.features = report.name, report.features
        threading.Thread(target=self._listen, args=(said, sink), name="engine", daemon=True).start()

    def submit(self, key: int, input_ids: list[int], sampling: SamplingParams) -> None:
        """Hand a request to the worker.

        Raises:
            Unavailable: the worker is dead; the supervisor will restart the server.
        """
        with self._lock:
            if self._died:
                raise _dead()
            self._in_flight.add(key)
        self._order(Submit(key, input_ids, sampling))

    def abort(self, key: int) -> None:
        """Pass it on."""
        self._order(Abort(key))

    def stats(self) -> Stats:
        """As of the last step, and what came since: a request that waits for its guide makes none."""
        stats = self._stats
        unseen = max(0, len(self._in_flight) - stats.active - stats.waiting)
        return msgspec.structs.replace(stats, waiting=stats.waiting + unseen, lag_s=self._lag_s)

    def stop(self) -> None:
        """End the worker: it exits when its socket closes."""
        self._socket.shutdown(socket.SHUT_RDWR)  # a close alone would wait for the listening thread
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _order(self, order: Submit | Abort) -> None:
        with contextlib.suppress(OSError):
            self._frames.send(_encode(order))

    def _listen(self, said: Iterator[bytes], sink: Sink) -> None:
        for message in said:
            report = _decode_report(message)
            assert isinstance(report, Step)
            self._stats, self._lag_s = report.stats, time.monotonic() - report.sent_at
            ended = {output.key for output in report.outputs if output.finish}
            if ended:
                with self._lock:
                    self._in_flight -= ended
            sink(report.outputs)
        with self._lock:
            self._died = True
            lost, self._in_flight = self._in_flight, set()
        sink([failed(key, _dead()) for key in lost])


def _dead() -> Unavailable:
    return Unavailable("the engine's process died", fix="The server is being restarted: try again")


def serve(frames: Frames, make: Callable[[], Engine]) -> Engine | None:
    """The worker's end: make an engine and run it until the stage closes the socket.

    Returns:
        The engine, which is to be stopped; none where it could not be made or loaded, and the stage knows why.
    """

    def report(outputs: Sequence[Output]) -> None:
        with contextlib.suppress(OSError):
            frames.send(_encode(Step(list(outputs), engine.stats(), time.monotonic())))

    try:
        engine = make()
        engine.start(report)
    except Exception as error:
        reason = str(error) if isinstance(error, ConchError) else f"{type(error).__name__}: {error}"
        frames.send(_encode(Failed(reason)))
        return None
    frames.send(_encode(Ready(engine.name, engine.features)))
    for order in map(_decode_order, frames):
        if isinstance(order, Submit):
            engine.submit(order.key, order.input_ids, order.sampling)
        else:
            engine.abort(order.key)
    return engine


def gated(config: StageConfig) -> Engine:
    """The engine of a deployment, behind a gate where a guide could break it."""
    engine = engines.make(config.engine, config.spec)
    if config.engine is None or engines.folder_of(config.spec.engine.runtime).compiler is None:
        return engine
    from python_backend.gate import GatedEngine
    from python_backend.guides import GuideProcess

    return GatedEngine(engine, GuideProcess(config.engine, config.spec.engine.runtime))


def main() -> None:
    """``python -m python_backend.worker FD CONFIG``, started by EngineWorker."""
    config = StageConfig.from_json(sys.argv[2])
    engine = serve(Frames(socket.socket(fileno=int(sys.argv[1]))), lambda: gated(config))
    if engine is None:
        for child in psutil.Process().children(recursive=True):  # of an engine that failed half way
            with contextlib.suppress(psutil.Error):
                child.kill()
    elif config.spec.engine.kind.own_processes:
        engine.stop()
    os._exit(0)  # the engine's threads may be in the middle of a step that nobody waits for


if __name__ == "__main__":
    main()
