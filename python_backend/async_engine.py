"""An engine whose answers are asynchronous streams, behind the engine protocol.

One event loop in a thread of its own owns the engine's front end: requests begin there, are read there and are aborted
there. All that the streams gain in one turn of the loop, which is one step of the engine, goes to the sink at once.
"""

import asyncio
import contextlib
import os
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Coroutine
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn

import msgspec

from contract.errors import EngineFailed, RequestError, Unavailable
from contract.sampling import SamplingParams
from contract.tensors import FinishReason
from python_backend.protocol import Output, Sink, Stats, failed

_STATS_PERIOD_S = 0.5
_STOP_S = 8


def check_version(package: str, wanted: str, name: str) -> None:
    """Refuse to start with an engine that is not there, or is another than the one whose API is spoken here.

    Raises:
        Unavailable: with the make target that installs it.
    """
    fix = f"Run make {package}"
    try:
        found = version(package)
    except PackageNotFoundError:
        raise Unavailable(f"{name} is not installed here", fix=fix) from None
    if found != wanted:
        raise Unavailable(f"{name} {found} is installed here, and {name} {wanted} is wanted", fix=fix)


class AsyncEngine(ABC):
    """What such engines share; a subclass says how one answer is read and how it is left."""

    name = ""
    features: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._live: set[int] = set()  # touched on the loop only, as is all below
        self._gained: list[Output] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._steps = 0
        self._told = Stats()

    @abstractmethod
    def load(self) -> None:
        """Load the model, in the thread that starts the engine."""

    @abstractmethod
    def answer(self, key: int, input_ids: list[int], sampling: SamplingParams) -> AsyncGenerator[Output, None]:
        """Read one answer, on the loop; the output with ``finish`` is its last.

        Raises:
            RequestError: the engine refuses the request.
        """

    @abstractmethod
    async def leave(self, key: int) -> None:
        """Have the engine stop an answer; what it still says of it is not heard."""

    @abstractmethod
    def tell(self) -> Stats | None:
        """The engine's own statistics, steps left out; None: nothing is known yet."""

    def begin(self) -> None:  # noqa: B027  most have nothing to do here
        """On the loop, before the first request."""

    @abstractmethod
    async def unload(self) -> None:
        """Release the model, and end what the engine has of processes."""

    def start(self, sink: Sink) -> None:
        """Load the model (seconds to minutes) and begin."""
        self._sink = sink
        self.load()
        threading.Thread(target=self._run, name=self.name, daemon=True).start()

    def submit(self, key: int, input_ids: list[int], sampling: SamplingParams) -> None:
        """Queue a request."""
        self._loop.call_soon_threadsafe(self._open, key, input_ids, sampling)

    def abort(self, key: int) -> None:
        """Stop a request before its next step."""
        self._loop.call_soon_threadsafe(self._cancel, key)

    def stats(self) -> Stats:
        """What is in flight is known here; how the engine fares is as of the last poll."""
        live = len(self._live)
        waiting = min(live, self._told.waiting)
        return msgspec.structs.replace(self._told, active=live - waiting, waiting=waiting, steps=self._steps)

    def stop(self) -> None:
        """End the loop and the engine's processes."""
        with contextlib.suppress(TimeoutError):  # whoever started this process ends it then
            asyncio.run_coroutine_threadsafe(self._halt(), self._loop).result(_STOP_S)
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _halt(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self.unload()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.call_soon(self.begin)
        self._loop.call_soon(self._spawn, self._poll())
        self._loop.run_forever()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _open(self, key: int, input_ids: list[int], sampling: SamplingParams) -> None:
        self._live.add(key)
        self._spawn(self._follow(key, input_ids, sampling))

    def _cancel(self, key: int) -> None:
        if key in self._live:
            self._live.discard(key)
            self._spawn(self._leave(key))
            self._gain(Output(key, finish=FinishReason.CANCELLED))

    async def _leave(self, key: int) -> None:
        try:
            await self.leave(key)
        except Exception:
            die()

    async def _follow(self, key: int, input_ids: list[int], sampling: SamplingParams) -> None:
        """Read one request to its end."""
        if key not in self._live:  # it left before its turn
            return
        try:
            async for output in self.answer(key, input_ids, sampling):
                if key in self._live and (output.ids or output.finish or output.prompt_log_probs):
                    if output.finish:
                        self._live.discard(key)
                    self._gain(output)
            if key in self._live:
                self._end(key, EngineFailed("the engine ended the answer without saying why"))
        except RequestError as refusal:
            if key in self._live:
                self._end(key, refusal)
        except Exception:
            if key in self._live:  # how an answer ends that was left is nobody's concern
                die()

    def _end(self, key: int, error: RequestError) -> None:
        self._live.discard(key)
        self._gain(failed(key, error))

    def _gain(self, output: Output) -> None:
        if not self._gained:
            self._loop.call_soon(self._flush)
        self._gained.append(output)

    def _flush(self) -> None:
        outputs, self._gained = self._gained, []
        self._steps += 1
        self._sink(outputs)

    async def _poll(self) -> None:
        """The engine's own statistics; an empty step carries what is new to the stage."""
        while True:
            await asyncio.sleep(_STATS_PERIOD_S)  # first of all: whoever starts the engine wants to say so first
            try:
                told = self.tell()
            except Exception:  # no request depends on it
                traceback.print_exc()
                return
            if told and told != self._told:
                self._told = told
                self._sink([])


def die() -> NoReturn:
    """An error of no single request: the engine is in no known state, and the supervisor starts a new one."""
    traceback.print_exc()
    os._exit(1)
