"""OpenVINO GenAI's ContinuousBatchingPipeline behind the engine protocol.

One thread owns the pipeline: it takes in submissions and aborts, makes a step, reads every handle.
``step()`` holds Python's interpreter lock, so this engine lives in a worker process (worker.py).
The pipeline batches, schedules, caches prefixes and samples; its traps are in docs/python_backend.md. A prompt that is
to be scored is scored beside it first (scoring.py).
"""

import os
import secrets
import threading
import time
import traceback
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai

from contract.errors import EngineFailed
from contract.manifest import Manifest, load_manifest
from contract.sampling import SamplingParams
from contract.spec import Deployment
from contract.tensors import FinishReason
from python_backend.openvino import FEATURES
from python_backend.openvino.company import Company
from python_backend.openvino.sampling import generation_config, stops_of
from python_backend.openvino.scoring import Scorer, Scores, scoring_threads
from python_backend.protocol import Output, Sink, Stats, failed

_FINISH = {
    genai.GenerationFinishReason.STOP: FinishReason.STOP,
    genai.GenerationFinishReason.LENGTH: FinishReason.LENGTH,
}


class _Run:
    """One request in the pipeline."""

    __slots__ = ("handle", "log_probs", "scheduled_ns")

    def __init__(self, handle: Any, log_probs: bool) -> None:
        self.handle = handle
        self.log_probs = log_probs
        self.scheduled_ns = time.monotonic_ns()  # what it waits for in the pipeline, nobody tells


# OpenVINO's own choice is f16 for each of them, which changes the greedy answers of an fp32 engine. For int8, f16 costs
# no speed against u8, and 49.5 % of the greedy tokens stay the reference's instead of 40.0 %.
_KV_CACHE = {"fp32": "f32", "bf16": "bf16", "int8": "f16", "int4": "f16"}


def load_pipeline(engine: Path, spec: Deployment, manifest: Manifest) -> Any:
    """The pipeline of an engine folder, as serving and verification both run it."""
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = spec.limits.kv_cache_gib
    scheduler.max_num_seqs = spec.limits.max_batch_size + 1  # one for the supervisor's canary
    scheduler.max_num_batched_tokens = spec.limits.max_num_tokens
    scheduler.dynamic_split_fuse = True
    scheduler.enable_prefix_caching = True
    properties = {
        "INFERENCE_NUM_THREADS": spec.engine.threads or len(os.sched_getaffinity(0)),
        "INFERENCE_PRECISION_HINT": "bf16" if manifest.precision == "bf16" else "f32",
        "KV_CACHE_PRECISION": _KV_CACHE[manifest.precision],
        "PERFORMANCE_HINT": "LATENCY",
    }
    return genai.ContinuousBatchingPipeline(str(engine), scheduler, "CPU", properties)


class OpenVinoEngine:
    """Continuous batching on the CPU."""

    name = "openvino"
    features = FEATURES

    def __init__(self, engine: Path, spec: Deployment) -> None:
        self._engine = engine
        self._spec = spec
        self._submitted: deque[tuple[int, list[int], SamplingParams]] = deque()
        self._aborts: set[int] = set()
        self._scoring: set[int] = set()  # keys of prompts that the scorer has
        self._scored: list[Output] = []
        self._runs: dict[int, _Run] = {}
        self._company = Company()
        self._changed = threading.Condition()
        self._stopping = False
        self._steps = 0

    def start(self, sink: Sink) -> None:
        """Load the engine (seconds) and begin stepping."""
        self._sink = sink
        self._manifest = load_manifest(self._engine)
        self._pipeline = load_pipeline(self._engine, self._spec, self._manifest)
        self._scorer = Scorer(self._engine, scoring_threads(self._spec.engine.threads), self._take_scores)
        self._thread = threading.Thread(target=self._run, name="openvino", daemon=True)
        self._thread.start()

    def submit(self, key: int, input_ids: list[int], sampling: SamplingParams) -> None:
        """Queue a request for the next step."""
        with self._changed:
            if sampling.prompt_logprobs is not None:
                self._scoring.add(key)
                self._scorer.submit(key, input_ids, sampling)
                return
            self._company.arrive(idle=not (self._runs or self._submitted))
            self._submitted.append((key, input_ids, sampling))
            self._changed.notify()

    def abort(self, key: int) -> None:
        """Stop a request before the next step."""
        with self._changed:
            self._aborts.add(key)
            self._changed.notify()

    def stats(self) -> Stats:
        """From the pipeline's own count."""
        metrics = self._pipeline.get_metrics()
        live = len(self._runs)
        active = min(live, int(metrics.scheduled_requests))
        return Stats(
            active=active,
            waiting=live - active + len(self._submitted) + len(self._scoring),
            steps=self._steps,
            kv_cache_usage=metrics.cache_usage / 100,
        )

    def stop(self) -> None:
        """End the loop and release the model."""
        self._scorer.stop()
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout=30)
        del self._pipeline

    def _take_scores(self, key: int, input_ids: list[int], sampling: SamplingParams, scores: Scores | str) -> None:
        """Of a prompt, from the scorer's thread: what is to be generated after it goes to the pipeline."""
        with self._changed:
            if key not in self._scoring:  # it left meanwhile
                return
            self._scoring.discard(key)
            if isinstance(scores, str):
                self._scored.append(failed(key, EngineFailed(scores)))
            elif sampling.told_by_the_prompt:
                self._scored.append(self._told(key, sampling, scores))
            else:
                self._scored.append(_prompts(key, scores))
                self._submitted.append((key, input_ids, sampling))
            self._changed.notify()

    def _told(self, key: int, sampling: SamplingParams, scores: Scores) -> Output:
        """A whole answer: the likeliest token after the prompt."""
        output, likeliest = _prompts(key, scores), scores.next[0]
        output.ids = [likeliest.token_id]
        output.log_probs = [likeliest.logprob] * sampling.return_log_probs
        output.top_log_probs = [scores.next[: sampling.logprobs]] if sampling.logprobs else []
        ended = likeliest.token_id in stops_of(sampling, self._manifest.eos_token_ids)
        output.finish = FinishReason.STOP if ended else FinishReason.LENGTH
        return output

    def _run(self) -> None:
        """The thread. A step that fails leaves the pipeline in no known state: the process ends with it."""
        try:
            self._loop()
        except Exception:
            traceback.print_exc()
            os._exit(1)

    def _loop(self) -> None:
        while True:
            with self._changed:
                while not (self._has_news() or self._pipeline.has_non_finished_requests() or self._stopping):
                    self._changed.wait()
                while not self._runs and (wait_s := self._company.wait_s()):
                    self._changed.wait(wait_s)
                if self._stopping:
                    return
                submitted, self._submitted = self._submitted, deque()
                aborts, self._aborts = self._aborts, set()
                scored, self._scored = self._scored, []
                unscored = aborts & self._scoring  # found under the lock: each is here, or among the submitted
                self._scoring -= unscored
            outputs = scored + [refused for item in submitted if (refused := self._add(*item))]
            outputs += [Output(key, finish=FinishReason.CANCELLED) for key in aborts if self._cancel(key)]
            outputs += [Output(key, finish=FinishReason.CANCELLED) for key in unscored]
            for key in unscored:
                self._scorer.cancel(key)
            if self._pipeline.has_non_finished_requests():
                begun = time.monotonic()
                self._pipeline.step()
                self._company.step_s = time.monotonic() - begun
                self._steps += 1
            outputs += [output for key, run in list(self._runs.items()) if (output := self._read(key, run))]
            self._sink(outputs)

    def _has_news(self) -> bool:
        return bool(self._submitted or self._aborts or self._scored)

    def _add(self, key: int, input_ids: list[int], sampling: SamplingParams) -> Output | None:
        """Hand a request to the pipeline; an output only if it refuses."""
        config = generation_config(sampling, self._manifest.eos_token_ids, seed=secrets.randbits(63))
        prompt = ov.Tensor(np.array([input_ids], dtype=np.int64))
        try:
            handle = self._pipeline.add_request(key & 0xFFFFFFFF, prompt, config)
        except Exception as error:
            return failed(key, EngineFailed(f"the engine refused the request: {error}"))
        self._runs[key] = _Run(handle, sampling.return_log_probs)
        return None

    def _cancel(self, key: int) -> bool:
        run = self._runs.pop(key, None)
        if run:
            run.handle.cancel()
        return run is not None

    def _read(self, key: int, run: _Run) -> Output | None:
        """What the last step gave this request."""
        output = Output(key)
        while run.handle.can_read():
            for generated in run.handle.read().values():
                output.ids += generated.generated_ids
                if run.log_probs:
                    output.log_probs += generated.generated_log_probs
                output.finish = _FINISH.get(generated.finish_reason)
        status = run.handle.get_status()
        if status == genai.GenerationStatus.IGNORED:
            self._cancel(key)
            reason = "the KV cache is too small for this request (limits.kv_cache_gib)"
            return failed(key, EngineFailed(reason))
        if status == genai.GenerationStatus.FINISHED and output.finish is None:
            output.finish = FinishReason.STOP
        if output.ids:
            output.scheduled_ns, run.scheduled_ns = run.scheduled_ns, 0
        if output.finish:
            del self._runs[key]
        return output if output.ids or output.finish else None


def _prompts(key: int, scores: Scores) -> Output:
    return Output(key, prompt_log_probs=scores.log_probs, prompt_top_log_probs=scores.top)


create = OpenVinoEngine
