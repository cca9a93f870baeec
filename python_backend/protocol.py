"""The engine protocol: token ids in, token ids out. Nothing above it knows which engine runs."""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from contract.errors import RequestError
from contract.sampling import SamplingParams
from contract.tensors import FinishReason
from contract.wire import TopLogprob


class Output(msgspec.Struct, omit_defaults=True):
    """What one request gained in one engine step."""

    key: int
    ids: list[int] = []
    log_probs: list[float] = []  # of ids, where asked for
    top_log_probs: list[list[TopLogprob]] = []
    prompt_log_probs: list[float] = []  # of the prompt's tokens but the first; before the first ids, or with them
    prompt_top_log_probs: list[list[TopLogprob]] = []
    finish: FinishReason | None = None
    cached_tokens: int | None = None  # of the prompt; told once, or not at all
    scheduled_ns: int = 0  # time.monotonic_ns() when the engine took the request up; likewise
    error: str = ""  # RequestError.to_wire() when finish is ERROR


def failed(key: int, error: RequestError) -> Output:
    """The last output of a request that the engine refused, or failed on."""
    return Output(key, finish=FinishReason.ERROR, error=error.to_wire())


class Stats(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the engine is doing now."""

    active: int = 0  # requests in the batch
    waiting: int = 0  # requests waiting for it
    steps: int = 0  # since its start
    kv_cache_usage: float | None = None  # share of the KV cache in use, where the engine tells
    drafted: int = 0  # tokens guessed ahead since its start, where it speculates
    accepted: int = 0  # of them, those that the model took
    lag_s: float = 0.0  # for how long the last step's outputs were on their way to the stage


Sink = Callable[[Sequence[Output]], None]  # called once a step with every output of that step


class Engine(Protocol):
    """One inference engine, with many requests in flight."""

    name: str
    features: frozenset[str]  # what contract.sampling.features may ask of it

    def start(self, sink: Sink) -> None:
        """Load the model; from now on outputs go to ``sink``, from a thread of the engine's own."""

    def submit(self, key: int, input_ids: list[int], sampling: SamplingParams) -> None:
        """Queue a request; returns at once. ``sampling.max_tokens`` is set, and 1 or more.

        Exactly one output with ``finish`` follows for every key, whatever happens.
        """

    def abort(self, key: int) -> None:
        """Stop a request before its next step; unknown keys are no error."""

    def stats(self) -> Stats:
        """Cheap enough for every second."""

    def stop(self) -> None:
        """Release the model; no output after this."""
