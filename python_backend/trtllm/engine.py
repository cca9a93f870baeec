"""TensorRT-LLM's LLM API behind the engine protocol; it lives in a worker process (worker.py).

One event loop owns the LLM: requests are made, read and aborted on it, because a result that is made outside
a running loop cannot be awaited. Results are one object each that changes under the reader, and their ids are
cumulative: only what is new is copied. Its statistics are asked for in a thread of their own: the question waits for
rank 0, for as long as that takes. The worker is where ``trtllm-llmapi-launch`` finds its leader, so one GPU, one
machine and several machines are the same code.
"""

import secrets
import threading
import traceback
from collections.abc import AsyncGenerator
from pathlib import Path, PurePosixPath
from typing import Any

from contract.engines.trtllm.arguments import serve_call
from contract.engines.trtllm.calls import find, make
from contract.engines.trtllm.lora import adapted_modules
from contract.errors import EngineFailed, Unavailable
from contract.launcher import forget_launcher
from contract.lora import ADAPTERS
from contract.manifest import load_manifest
from contract.sampling import SamplingParams
from contract.spec import Deployment
from contract.tensors import FinishReason
from contract.wire import TopLogprob
from python_backend.async_engine import AsyncEngine
from python_backend.engines import features_of
from python_backend.protocol import Output, Stats
from python_backend.trtllm.sampling import sampling_call

_FINISH = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "cancelled": FinishReason.CANCELLED,
    "timeout": FinishReason.CANCELLED,
}
_STATS_PERIOD_S = 0.5


class TrtllmEngine(AsyncEngine):
    """In-flight batching on NVIDIA's GPUs."""

    name = "trtllm"

    def __init__(self, engine: Path, spec: Deployment) -> None:
        super().__init__()
        self._engine = engine
        self._spec = spec
        self._adapters = spec.engine.trtllm.lora.names if spec.engine.trtllm.lora else []
        self.features = features_of(spec.engine)
        self._results: dict[int, Any] = {}  # in flight, by key
        self._iteration: dict[str, Any] = {}  # TensorRT-LLM's own statistics, of its last one
        self._stopped = threading.Event()

    def load(self) -> None:
        """Load the engine (minutes for a large one).

        Raises:
            Unavailable: TensorRT-LLM is not here.
        """
        self._eos = load_manifest(self._engine).eos_token_ids
        adapted = adapted_modules(self._spec.engine.trtllm.lora, self._engine)
        forget_launcher()
        try:
            self._llm = make(serve_call(self._spec, PurePosixPath(self._engine), adapted))
        except ImportError as missing:
            raise Unavailable(
                f"TensorRT-LLM cannot be imported here ({missing})",
                fix=f"Serve inside {self._spec.engine.trtllm.container.image}",
            ) from None
        self._request_error = find("RequestError")
        threading.Thread(target=self._ask_statistics, name="trtllm-statistics", daemon=True).start()

    def stop(self) -> None:
        """End the loop, and with ``shutdown`` the processes of the other GPUs."""
        self._stopped.set()
        super().stop()
        self._llm.shutdown()

    async def answer(self, key: int, input_ids: list[int], sampling: SamplingParams) -> AsyncGenerator[Output, None]:
        """Read one answer; what TensorRT-LLM refuses, or fails on, is that request's error."""
        try:
            result = self._llm.generate_async(
                inputs=input_ids,
                sampling_params=make(sampling_call(sampling, self._eos, secrets.randbits(63))),
                lora_request=self._adapter(sampling.lora_name),
                streaming=True,
            )
        except (ValueError, self._request_error) as error:
            raise EngineFailed(f"the engine refused the request: {error}") from None
        self._results[key] = result
        taken = 0
        try:
            async for current in result:
                part = current.outputs[0]
                # A reader that comes late finds the ids of several steps, or none that are new.
                output = Output(key, list(part.token_ids[taken:]))
                if sampling.return_log_probs or sampling.logprobs:
                    add_log_probs(output, part.logprobs[taken : taken + len(output.ids)], sampling.logprobs)
                taken += len(output.ids)
                if current.finished:
                    otherwise = FinishReason.CANCELLED if current.aborted() else FinishReason.STOP
                    output.finish = _FINISH.get(part.finish_reason, otherwise)
                    self._complete(output, part, sampling)
                yield output
                if current.finished:
                    return
        except (self._request_error, UnknownLogProbs) as error:
            result.abort()
            raise EngineFailed(f"the engine failed on this request: {error}") from None
        finally:
            self._results.pop(key, None)

    async def leave(self, key: int) -> None:
        """Have it stop."""
        if result := self._results.get(key):
            result.abort()

    def tell(self) -> Stats | None:
        """As of the last question that was answered."""
        return read_stats(self._iteration) if self._iteration else None

    async def unload(self) -> None:
        """``stop`` does, in the thread that loaded it."""

    def _adapter(self, name: str) -> Any:
        if not name:
            return None
        path = str(self._engine / ADAPTERS / name)
        return find("LoRARequest")(lora_name=name, lora_int_id=1 + self._adapters.index(name), lora_path=path)

    def _complete(self, output: Output, part: Any, sampling: SamplingParams) -> None:
        """An engine keeps the end of sequence to itself; the contract's ids have it."""
        ended = part.finish_reason == "stop" and part.stop_reason is None and not sampling.return_log_probs
        end = sampling.end_id if sampling.end_id is not None else next(iter(self._eos), None)
        if ended and end is not None and part.token_ids[-1:] != [end]:
            output.ids.append(end)

    def _ask_statistics(self) -> None:
        """A thread: ``get_stats_async`` asks in the same way before it returns, and would hold up the loop.

        There are none where the LLM computes in this very process: an engine of one GPU that keeps its logits
        (log_probs) does.
        """
        while not self._stopped.wait(_STATS_PERIOD_S):
            try:
                told = self._llm.get_stats(timeout=_STATS_PERIOD_S)
            except Exception:  # what goes wrong here differs by backend, and no request depends on it
                if not self._stopped.is_set():
                    traceback.print_exc()
                return
            if told:
                self._iteration = told[-1]


def read_stats(told: dict[str, Any]) -> Stats:
    """One iteration's statistics, steps left out. The backends tell different things: nothing is taken for granted.

    Args:
        told: TensorRT-LLM's own.
    """
    cache = told.get("kvCacheStats") or {}
    used, most = cache.get("usedNumBlocks"), cache.get("maxNumBlocks")
    return Stats(
        waiting=int(told.get("numQueuedRequests") or 0),
        kv_cache_usage=used / most if used is not None and most else None,
    )


class UnknownLogProbs(Exception):
    """Of a token that was generated, nothing is told."""


def add_log_probs(output: Output, told: list[Any], most: int) -> None:
    """Of each token its own, and of the most likely ones where asked for.

    Raises:
        UnknownLogProbs: a token that was generated is not among those that are told.
    """
    for token, entry in zip(output.ids, told, strict=False):
        if isinstance(entry, float):  # PyTorch's sampler may tell no more
            output.log_probs.append(entry)
            continue
        if token not in entry:
            raise UnknownLogProbs(f"no log probability of token {token}")
        output.log_probs.append(float(entry[token].logprob))
        ranked = sorted(entry.items(), key=lambda item: -item[1].logprob)[:most]
        if most:
            output.top_log_probs.append([TopLogprob(int(other), float(value.logprob)) for other, value in ranked])


create = TrtllmEngine
