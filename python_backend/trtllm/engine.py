"""TensorRT-LLM's LLM API behind the engine protocol; it lives in a worker process (worker.py).

One event loop owns the LLM: requests are made, read and aborted on it, because a result that is made outside
a running loop cannot be awaited. Results are one object each that changes under the reader, and their ids are
cumulative: only what is new is copied. Its statistics are asked for in a thread of their own: the question waits for
rank 0, for as long as that takes. The worker is where ``trtllm-llmapi-launch`` finds its leader, so one GPU, one
machine and several machines are the same code.
"""

import asyncio
import secrets
import threading
import traceback
from collections.abc import Coroutine
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
from python_backend.async_engine import die
from python_backend.engines import features_of
from python_backend.protocol import Output, Sink, Stats, failed
from python_backend.trtllm.sampling import sampling_call

_FINISH = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "cancelled": FinishReason.CANCELLED,
    "timeout": FinishReason.CANCELLED,
}
_STATS_PERIOD_S = 0.5


class TrtllmEngine:
    """In-flight batching on NVIDIA's GPUs."""

    name = "trtllm"

    def __init__(self, engine: Path, spec: Deployment) -> None:
        self._engine = engine
        self._spec = spec
        self._adapters = spec.engine.trtllm.lora.names if spec.engine.trtllm.lora else []
        self.features = features_of(spec.engine)
        self._results: dict[int, Any] = {}  # in flight, by key; touched on the loop only
        self._gained: list[Output] = []
        self._told: dict[str, Any] = {}  # TensorRT-LLM's own statistics, of its last iteration
        self._stopped = threading.Event()
        self._steps = 0
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, sink: Sink) -> None:
        """Load the engine (minutes for a large one) and begin.

        Raises:
            Unavailable: TensorRT-LLM is not here.
        """
        self._sink = sink
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
        self._thread = threading.Thread(target=self._run, name="trtllm", daemon=True)
        self._thread.start()
        threading.Thread(target=self._poll, name="trtllm-statistics", daemon=True).start()

    def submit(self, key: int, input_ids: list[int], sampling: SamplingParams) -> None:
        """Queue a request."""
        self._loop.call_soon_threadsafe(self._begin, key, input_ids, sampling)

    def abort(self, key: int) -> None:
        """Stop a request; its last response says so."""
        self._loop.call_soon_threadsafe(self._abort, key)

    def stats(self) -> Stats:
        """What is in flight is known here; how the GPU fares is as of the last poll."""
        return read_stats(self._told, live=len(self._results), steps=self._steps)

    def stop(self) -> None:
        """End the loop, and with ``shutdown`` the processes of the other GPUs."""
        self._stopped.set()
        self._loop.call_soon_threadsafe(self._end)
        self._thread.join(timeout=5)
        self._llm.shutdown()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))

    def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._loop.stop()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _begin(self, key: int, input_ids: list[int], sampling: SamplingParams) -> None:
        """Hand a request to TensorRT-LLM; what it refuses is that request's error."""
        try:
            result = self._llm.generate_async(
                inputs=input_ids,
                sampling_params=make(sampling_call(sampling, self._eos, secrets.randbits(63))),
                lora_request=self._adapter(sampling.lora_name),
                streaming=True,
            )
        except (ValueError, self._request_error) as error:
            self._gain(failed(key, EngineFailed(f"the engine refused the request: {error}")))
            return
        except Exception:
            die()
        self._results[key] = result
        self._spawn(self._follow(key, result, sampling))

    def _adapter(self, name: str) -> Any:
        if not name:
            return None
        path = str(self._engine / ADAPTERS / name)
        return find("LoRARequest")(lora_name=name, lora_int_id=1 + self._adapters.index(name), lora_path=path)

    def _abort(self, key: int) -> None:
        if result := self._results.get(key):
            result.abort()

    async def _follow(self, key: int, result: Any, sampling: SamplingParams) -> None:
        """Read one request to its end."""
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
                if output.ids or output.finish:
                    self._gain(output)
                if current.finished:
                    return
        except (self._request_error, UnknownLogProbs) as error:
            self._gain(failed(key, EngineFailed(f"the engine failed on this request: {error}")))
            result.abort()
        except Exception:
            die()
        finally:
            self._results.pop(key, None)

    def _complete(self, output: Output, part: Any, sampling: SamplingParams) -> None:
        """An engine keeps the end of sequence to itself; the contract's ids have it."""
        ended = part.finish_reason == "stop" and part.stop_reason is None and not sampling.return_log_probs
        end = sampling.end_id if sampling.end_id is not None else next(iter(self._eos), None)
        if ended and end is not None and part.token_ids[-1:] != [end]:
            output.ids.append(end)

    def _gain(self, output: Output) -> None:
        """All that one engine step gave goes to the sink at once."""
        if not self._gained:
            self._loop.call_soon(self._flush)
        self._gained.append(output)

    def _flush(self) -> None:
        outputs, self._gained = self._gained, []
        self._steps += 1
        self._sink(outputs)

    def _poll(self) -> None:
        """TensorRT-LLM's own statistics; an empty step carries what is new to the stage.

        ``get_stats_async`` asks in the same way before it returns, and would hold up the loop. There are none where
        the LLM computes in this very process: an engine of one GPU that keeps its logits (log_probs) does.
        """
        while not self._stopped.wait(_STATS_PERIOD_S):
            try:
                told = self._llm.get_stats(timeout=_STATS_PERIOD_S)
            except Exception:  # what goes wrong here differs by backend, and no request depends on it
                if not self._stopped.is_set():
                    traceback.print_exc()
                return
            if told and not self._stopped.is_set():
                self._told = told[-1]
                self._loop.call_soon_threadsafe(self._sink, [])


def read_stats(told: dict[str, Any], *, live: int, steps: int) -> Stats:
    """One iteration's statistics. The backends tell different things, so nothing is taken for granted.

    Args:
        told: TensorRT-LLM's own.
        live: requests in flight.
        steps: how often there were outputs.
    """
    cache = told.get("kvCacheStats") or {}
    used, most = cache.get("usedNumBlocks"), cache.get("maxNumBlocks")
    waiting = min(live, int(told.get("numQueuedRequests") or 0))
    return Stats(
        active=live - waiting,
        waiting=waiting,
        steps=max(steps, int(told.get("iter") or 0)),
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
