"""The synthetic engine: every request in flight gains one token a step, its prompt over and over.

Of a prompt it can say how likely its tokens are: what it expects is half as likely as not, the next higher id half of
that, and so on around the vocabulary. It expects each token to come again, and after the prompt the prompt.
"""

import math
import threading
import time
from itertools import pairwise

import numpy as np

from contract.sampling import SamplingParams
from contract.spec import Deployment
from contract.tensors import FinishReason
from contract.wire import TopLogprob
from python_backend.protocol import Output, Sink, Stats
from python_backend.synthetic import FEATURES
from python_backend.synthetic.tokenizer import EOS_ID


class _Run:
    """One request in flight."""

    __slots__ = ("ids", "left", "position", "sampling")

    def __init__(self, ids: list[int], sampling: SamplingParams) -> None:
        self.position = len(sampling.resumed_ids)
        self.ids = ids[: len(ids) - self.position]
        self.sampling = sampling
        self.left = sampling.max_tokens or 1


class SyntheticEngine:
    """Deterministic, weightless, and as fast as ``step_ms`` says."""

    name = "synthetic"
    features = FEATURES

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
            self._runs[key] = _Run(input_ids, sampling)
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
        output = Output(key, [run.ids[run.position % len(run.ids)]])
        if run.position == len(run.sampling.resumed_ids):
            output.cached_tokens = 0  # there is no cache
            output.scheduled_ns = time.monotonic_ns()
            _score(output, run)
        run.position += 1
        run.left -= 1
        if not run.left:
            del self._runs[key]
            output.finish = FinishReason.LENGTH
        return output


def log_prob(token: int, expected: int) -> float:
    """Of a token, where another, or itself, is expected."""
    return float(np.float32(-math.log(2) * (1 + (token - expected) % (EOS_ID + 1))))  # as the wire has it


def _score(output: Output, run: _Run) -> None:
    """Put what is asked for of the prompt, and of the one token that may follow it, into its first output."""
    sampling = run.sampling
    if sampling.prompt_logprobs is None:
        return
    output.prompt_log_probs = [log_prob(token, before) for before, token in pairwise(run.ids)]
    if sampling.prompt_logprobs:
        output.prompt_top_log_probs = [_likeliest(before, sampling.prompt_logprobs) for before in run.ids[:-1]]
    if sampling.return_log_probs:
        output.log_probs = [log_prob(token, token) for token in output.ids]
    if sampling.logprobs:
        output.top_log_probs = [_likeliest(token, sampling.logprobs) for token in output.ids]


def _likeliest(expected: int, most: int) -> list[TopLogprob]:
    tokens = [(expected + each) % (EOS_ID + 1) for each in range(most)]
    return [TopLogprob(token, log_prob(token, expected)) for token in tokens]


def create(engine: None, spec: Deployment) -> SyntheticEngine:
    """At the deployment's pace."""
    return SyntheticEngine(spec.engine.step_ms)
