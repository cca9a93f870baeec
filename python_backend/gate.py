"""An engine behind a gate: requests that must be looked at first wait outside, the others pass at once.

Outside, clients take turns: one with many guides that take long holds another's up by one of them.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Protocol

import msgspec

from contract.errors import InvalidRequest, RequestError, Unavailable
from contract.sampling import SamplingParams
from contract.stage import whose
from contract.tensors import FinishReason
from python_backend.protocol import Engine, Output, Sink, Stats, failed


class Inspector(Protocol):
    """What looks at a request's guide."""

    def refusal(self, sampling: SamplingParams) -> str:
        """Why the request is refused; '' if it is not. May take seconds.

        Raises:
            Unavailable: nobody can say now.
        """

    def stop(self) -> None:
        """Release what it holds."""


class GatedEngine:
    """The engine protocol; a request with a guide is submitted once ``inspector`` has passed it."""

    def __init__(self, engine: Engine, inspector: Inspector) -> None:
        self._engine = engine
        self._inspector = inspector
        self._waiting: OrderedDict[int, tuple[list[int], SamplingParams]] = OrderedDict()
        self._turns: OrderedDict[int, deque[int]] = OrderedDict()  # keys by whose they are; the first client is next
        self._served = 0  # the client that had the last turn
        self._ended = False
        self._lock = threading.Condition()  # of the three
        self._sinking = threading.Lock()  # outputs come from two threads
        self.name, self.features = engine.name, engine.features

    def start(self, sink: Sink) -> None:
        """Start the engine and the thread at the gate."""

        def in_turn(outputs: Sequence[Output]) -> None:
            with self._sinking:
                sink(outputs)

        self._sink = in_turn
        self._engine.start(in_turn)
        self._thread = threading.Thread(target=self._run, name="gate", daemon=True)
        self._thread.start()

    def submit(self, key: int, input_ids: list[int], sampling: SamplingParams) -> None:
        """Pass a request on, or let it wait."""
        if not sampling.guided_decoding_guide_type:
            self._engine.submit(key, input_ids, sampling)
            return
        with self._lock:
            self._waiting[key] = (input_ids, sampling)
            self._turns.setdefault(whose(key), deque()).append(key)
            self._lock.notify()

    def abort(self, key: int) -> None:
        """Stop a request on either side of the gate."""
        with self._lock:
            waited = self._waiting.pop(key, None)
        if waited:
            self._sink([Output(key, finish=FinishReason.CANCELLED)])
        else:
            self._engine.abort(key)

    def stats(self) -> Stats:
        """The engine's, and those outside."""
        stats = self._engine.stats()
        return msgspec.structs.replace(stats, waiting=stats.waiting + len(self._waiting))

    def stop(self) -> None:
        """End both."""
        with self._lock:
            self._ended = True
            self._lock.notify()
        self._thread.join(timeout=5)
        self._inspector.stop()
        self._engine.stop()

    def _next(self) -> int | None:
        """The key whose turn it is, once there is one; None in the end."""
        with self._lock:
            if self._served in self._turns:
                self._turns.move_to_end(self._served)
            self._lock.wait_for(lambda: self._turns or self._ended)
            if self._ended:
                return None
            self._served, keys = next(iter(self._turns.items()))
            key = keys.popleft()
            if not keys:
                del self._turns[self._served]
            return key

    def _run(self) -> None:
        while (key := self._next()) is not None:
            with self._lock:
                request = self._waiting.get(key)
            if request is None:  # it left meanwhile
                continue
            refused: RequestError | None = None
            try:
                if reason := self._inspector.refusal(request[1]):
                    refused = InvalidRequest(reason, field="guided_decoding_guide")
            except Unavailable as error:  # no fault of the request
                refused = error
            with self._lock:
                if self._waiting.pop(key, None) is None:
                    continue
                if not refused:
                    self._engine.submit(key, *request)
            if refused:
                self._sink([failed(key, refused)])
