"""The middle stage, whatever the engine: admits requests, submits them, and sends what comes back."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any

import triton_python_backend_utils as pb_utils

from contract.errors import InvalidRequest, Overloaded, RequestError
from contract.sampling import SamplingParams, check_supported, without_answer
from contract.stage import StageConfig, key_of
from contract.tensors import ENGINE_DELTA, ENGINE_REQUEST, FinishReason
from contract.wire import TOKENIZE, EngineDelta, EngineRequest, Opening, pack, unpack_request
from python_backend.backchannel import AbortListener
from python_backend.budget import Budget
from python_backend.engines import make
from python_backend.grammar.guide import with_grammar
from python_backend.metrics import Metrics
from python_backend.outbox import Outbox, Send
from python_backend.pressure import HOPELESS_S, LATE_S
from python_backend.protocol import Engine, Output, Stats
from python_backend.stage import error_response, guarded, read_config

if TYPE_CHECKING:
    from python_backend.direct import Direct, Make

_FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


def make_engine(config: StageConfig) -> Engine:
    """The engine of a deployment's runtime; only that one is imported."""
    if config.spec.engine.kind.in_stage:
        return make(config.engine, config.spec)
    from python_backend.worker import EngineWorker

    return EngineWorker(config)


def load_direct(config: StageConfig) -> "Make":
    """What a client that asks this stage itself needs; to import it takes a second."""
    from python_backend.direct import load

    return load(config)


class TritonPythonModel:
    """Triton's interface: decoupled, one instance, many requests in flight."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the engine and start its threads."""
        config = read_config(args)
        self._limits, self._lora = config.spec.limits, config.spec.engine.lora
        self._told = Stats()
        self._engine = make_engine(config)
        budget = Budget(config.spec.streaming, config.spec.engine.kind)
        self._outbox = Outbox(config.spec.streaming, self._engine.abort, budget)
        loader = ThreadPoolExecutor(max_workers=1)
        self._loading = loader.submit(load_direct, config)  # seconds, for which none waits but the first to ask
        loader.shutdown(wait=False)
        self._engine.start(self._outbox.push)
        self._aborts = AbortListener(config.backchannel, self._engine.abort, self._outbox.pressure.told)
        self._metrics = Metrics(config.spec.name, period_s=0.25, poll=self._poll)
        # Postprocess may outlive this process: keys never repeat across restarts.
        self._next_key = int.from_bytes(os.urandom(4), "little") << 32

    @cached_property
    def _direct(self) -> "Direct":
        return self._loading.result()(self._engine, self._outbox, self._metrics)

    def execute(self, requests: list[Any]) -> None:
        """Submit every request, or refuse it; answers follow from the outbox."""
        for request in requests:
            sender = request.get_response_sender()
            refused = guarded(self._submit, request, sender)
            if isinstance(refused, RequestError):
                sender.send(error_response(refused), flags=_FINAL)

    def finalize(self) -> None:
        """Stop the engine and its threads."""
        self._aborts.close()
        self._engine.stop()
        self._outbox.close()
        self._direct.close()
        self._metrics.stop()

    def _submit(self, request: Any, sender: Any) -> None:
        packed = pb_utils.get_input_tensor_by_name(request, ENGINE_REQUEST.name)
        if packed is None:
            message, send = self._direct.read(request), self._direct.answering(request, sender)
        else:
            message, send = unpack_request(packed.as_numpy()), _sender(sender)
        if message.tokenized:
            raise InvalidRequest("is for the first stage alone", field=TOKENIZE, fix="Leave it out")
        mute = message.sampling.max_tokens == 0
        sampling = without_answer(message.sampling) if mute else message.sampling
        self._admit(message, sampling)
        sampling = with_grammar(sampling, self._engine.features)
        self._next_key += 1
        key = message.key or key_of(message.whose, self._next_key)
        if key in self._outbox:
            raise InvalidRequest("this key has a request in flight")
        opening = Opening(
            num_input_tokens=len(message.input_ids),
            delivery=message.delivery,
            return_log_probs=message.sampling.return_log_probs,
            ends=message.sampling.ends,
            prompt_ids=message.input_ids if message.with_prompt else [],
            scored_ids=message.input_ids if sampling.prompt_logprobs is not None else [],
            submitted_ns=time.monotonic_ns(),
            resumed_ids=message.sampling.resumed_ids,
        )
        self._outbox.open(key, send, opening, message.stream_interval_ms, message.deadline_ns, mute=mute)
        if mute and sampling.prompt_logprobs is None:  # there is nothing to ask
            self._outbox.push([Output(key, finish=FinishReason.LENGTH)])
            return
        try:
            self._engine.submit(key, [*message.input_ids, *sampling.resumed_ids], sampling)
        except Exception:
            self._outbox.drop(key)
            raise

    def _admit(self, message: EngineRequest, sampling: SamplingParams) -> None:
        """Refuse before prefill what is over the limits or beyond the engine."""
        check_supported(sampling, self._engine.features, self._engine.name)
        if self._lora:
            self._lora.check(sampling.lora_name)
        if self._outbox.pressure.lag_s > HOPELESS_S and not message.delivery.canary:
            raise Overloaded(
                f"answers take {self._outbox.pressure.lag_s:.1f} s from the engine to their clients",
                fix="Try again later",
            )
        room = self._limits.max_batch_size + self._limits.max_queue_size
        if len(self._outbox) >= room and not message.delivery.canary:
            raise Overloaded(
                f"{len(self._outbox)} requests are in flight, the limit is {room} "
                f"(max_batch_size {self._limits.max_batch_size} + max_queue_size {self._limits.max_queue_size})",
                fix="Try again later",
            )

    def _poll(self, metrics: Metrics) -> None:
        self._outbox.budget.look(self._outbox.sent)
        stats = self._engine.stats()
        told, self._told = self._told, stats
        stepped = stats.steps - told.steps
        if stepped and stats.lag_s > LATE_S:
            self._outbox.pressure.told(stats.lag_s)
        metrics.count("conch_engine_steps_total", stepped)
        if stats.drafted:
            metrics.count("conch_draft_tokens_total", stats.drafted - told.drafted)
            metrics.count("conch_draft_tokens_accepted_total", stats.accepted - told.accepted)
        metrics.gauge("conch_requests_active", stats.active)
        metrics.gauge("conch_requests_waiting", stats.waiting)
        metrics.gauge("conch_streams_open", len(self._outbox), stage="engine")
        if stats.kv_cache_usage is not None:
            metrics.gauge("conch_kv_cache_usage_ratio", stats.kv_cache_usage)


def _sender(sender: Any) -> Send:
    """A delta as a Triton response; the last one closes the request."""

    def send(delta: EngineDelta) -> None:
        delta.sent_ns = time.monotonic_ns()
        tensor = pb_utils.Tensor(ENGINE_DELTA.name, pack(delta))
        sender.send(pb_utils.InferenceResponse([tensor]), flags=_FINAL if delta.finish else 0)

    return send
