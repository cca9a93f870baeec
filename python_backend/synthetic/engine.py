"""The synthetic engine: every request in flight gains one token a step, its prompt over and over."""

import threading
import time

from contract.sampling import SamplingParams
from contract.tensors import FinishReason
from python_backend.features import SYNTHETIC
from python_backend.protocol import Output, Sink, Stats


class _Run:
    """One request in flight."""

    __slots__ = ("ids", "left", "position")

    def __init__(self, ids: list[int], left: int) -> None:
        self.ids = ids
        self.left = left
        self.position = 0


class SyntheticEngine:
    """Deterministic, weightless, and as fast as ``step_ms`` says."""

    name = "synthetic"
    features = SYNTHETIC

    def __init__(self, step_ms: float) -> None:
        self._step_s = step_ms / 1000
        self._runs: dict[int, _Run] = {}
        self._aborted: set[int] = set()
        self._changed = threading.Condition()
        self._stopping = False
        self._steps = 0

    def start(self, sink: Sink) -> None:
        """Begin stepping."""
        self._sink = sink
        self._thread = threading.Thread(target=self._loop, name="synthetic", daemon=True)
        self._thread.start()

    def submit(self, key: int, input_ids: list[int], sampling: SamplingParams) -> None:
        """Queue a request."""
        with self._changed:
            self._runs[key] = _Run(input_ids, sampling.max_tokens or 1)
            self._changed.notify()

    def abort(self, key: int) -> None:
        """Stop a request before the next step."""
        with self._changed:
            if key in self._runs:
                self._aborted.add(key)

    def stats(self) -> Stats:
        """Everything submitted is active: there is no cache to fill."""
        return Stats(active=len(self._runs), steps=self._steps)

    def stop(self) -> None:
        """End the loop."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout=5)

    def _loop(self) -> None:
        due = time.monotonic()
        while True:
            with self._changed:
                while not self._runs and not self._stopping:
                    self._changed.wait()
                if self._stopping:
                    return
                outputs = [self._advance(key, run) for key, run in list(self._runs.items())]
            self._steps += 1
            self._sink(outputs)
            due = max(due + self._step_s, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))

    def _advance(self, key: int, run: _Run) -> Output:
        if key in self._aborted:
            self._aborted.discard(key)
            del self._runs[key]
            return Output(key, finish=FinishReason.CANCELLED)
        token = run.ids[run.position % len(run.ids)]
        cached = None if run.position else 0  # there is no cache
        run.position += 1
        run.left -= 1
        if run.left:
            return Output(key, [token], cached_tokens=cached)
        del self._runs[key]
        return Output(key, [token], finish=FinishReason.LENGTH, cached_tokens=cached)
