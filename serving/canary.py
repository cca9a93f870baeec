"""Is the server alive? One real one-token request, and where its stages stand while it is not answered.

A busy server may answer late, so silence alone is no hang: every stage has a counter, and a stage is
hung when its counter stands still while the canary waits. A step on a busy machine's cores may take longer than that
allows: an engine that computes on them is not hung while it is seen to use them. And where every stage is seen to
work for clients, no canary is sent: it would join their batch, and an int8 engine's greedy answers depend on it.
"""

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import grpc
from prometheus_client.samples import Sample
from tritonclient.grpc import service_pb2, service_pb2_grpc

from contract.spec import Deployment
from contract.tensors import stage_names
from serving.endpoints import read_metrics

# A fresh connection each time: a shared one would sit out gRPC's own back-off after a refusal.
_CHANNEL = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))


@dataclass(frozen=True)
class Pace:
    """When the canary is sent and how long it may take, in seconds."""

    interval_s: float = 2.5  # between an answer and the next canary
    late_s: float = 5.0  # unanswered, and a stage stands still, for this long: a hang
    bound_s: float = 60.0  # unanswered for this long: a hang, whatever the stages do


ComputedS = Callable[[], float]  # seconds of the cores' time that the engine has used so far; 0 where it needs none


class CanaryFailed(Exception):
    """No answer, or an error for an answer."""


async def ask(spec: Deployment, address: str, request_id: str, timeout_s: float) -> None:
    """Send one one-token request through the ensemble and wait for the end of its answer.

    Args:
        address: where the server answers over gRPC.
        request_id: the run's secret, under which no limit and no metric is meant (contract/stage.py).

    Raises:
        CanaryFailed: no connection, an error for an answer, or no answer within ``timeout_s`` seconds.
    """
    async with grpc.aio.insecure_channel(address, options=_CHANNEL) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            answered = False
            async for response in stub.ModelStreamInfer(_one_request(spec, request_id), timeout=timeout_s):
                if response.error_message:
                    raise CanaryFailed(response.error_message.rstrip("."))
                answered = True
        except grpc.aio.AioRpcError as error:
            raise CanaryFailed(error.details() or error.code().name) from None
        if not answered:
            raise CanaryFailed("the stream ended without an answer")


async def watch(spec: Deployment, address: str, request_id: str, pace: Pace, computed_s: ComputedS) -> str:
    """Send canaries for ever; return why the server must be restarted when one proves it."""
    failed = False
    samples: list[Sample] = []
    while True:
        await asyncio.sleep(pace.interval_s)
        before, samples = samples, await asyncio.to_thread(read_metrics, spec)
        if not failed and at_work(spec.name, before, samples):
            continue
        try:
            hang = await _ask_patiently(spec, address, request_id, pace, computed_s)
        except CanaryFailed as error:
            if failed:
                return f"two canaries in a row failed: {error}"
            failed = True
            continue
        if hang:
            return hang
        failed = False


async def _ask_patiently(spec: Deployment, address: str, request_id: str, pace: Pace, computed_s: ComputedS) -> str:
    """One canary: '' when it was answered, else which stage hangs."""
    sent = time.monotonic()
    question = asyncio.create_task(ask(spec, address, request_id, pace.bound_s + 1))
    progress = Progress(spec.name, sent, await asyncio.to_thread(read_metrics, spec))
    try:
        while True:
            done, _ = await asyncio.wait({question}, timeout=pace.late_s / 10)
            if done:
                question.result()
                return ""
            waited = time.monotonic() - sent
            if waited < pace.late_s / 2:  # a prompt answer costs no look at the metrics
                continue
            samples, used_s = await asyncio.to_thread(lambda: (read_metrics(spec), computed_s()))
            progress.update(time.monotonic(), samples, used_s)
            waited = time.monotonic() - sent
            stuck = progress.stuck_for(sent + waited, pace.late_s)
            if stuck:
                return f"no answer to a one-token request for {waited:.0f} s, and no progress in {' and '.join(stuck)}"
            if waited >= pace.bound_s:
                return f"no answer to a one-token request for {waited:.0f} s"
    finally:
        question.cancel()
        await asyncio.gather(question, return_exceptions=True)


class Progress:
    """When each stage was last seen to move."""

    def __init__(self, deployment: str, now: float, samples: list[Sample]) -> None:
        self._deployment = deployment
        self._computed_s: float | None = None  # as of when the engine was last seen to move by it
        self._counts = _counts(deployment, samples)
        self._moved_at = dict.fromkeys(_COUNTERS, now)
        self._preprocessed = False

    def update(self, now: float, samples: list[Sample], computed_s: float = 0.0) -> None:
        """Compare the counters with those seen before; a page that cannot be read shows no movement."""
        counts = _counts(self._deployment, samples)
        for stage, count in counts.items():
            if count != self._counts.get(stage):
                self._moved_at[stage] = now
                self._preprocessed |= stage == "preprocess"
        self._counts |= counts
        if self._computed_s is None:
            self._computed_s = computed_s
        elif computed_s - self._computed_s >= _A_STEPS_S:
            self._moved_at["engine"], self._computed_s = now, computed_s

    def stuck_for(self, now: float, seconds: float) -> list[str]:
        """The stages that ought to have moved and did not for so long.

        Preprocess takes requests in order: once it has moved it may have nothing left to do. The
        other two always have something to do while the canary waits for them.
        """
        return [
            stage
            for stage, moved_at in self._moved_at.items()
            if now - moved_at >= seconds and not (stage == "preprocess" and self._preprocessed)
        ]


def at_work(deployment: str, before: list[Sample], now: list[Sample]) -> bool:
    """Whether the engine was seen to work between two looks, more than a canary alone makes it, and no stage stands.

    A stage beside the engine stands where it did nothing though something waits for it: clients of the engine's own
    stage need neither.
    """
    first, last = _counts(deployment, before), _counts(deployment, now)
    waiting = _counts(deployment, now, dict.fromkeys(_PENDING, "nv_inference_pending_request_count"))
    moved = {stage: last[stage] - first[stage] for stage in last if stage in first}
    return moved.get("engine", 0) >= _AT_WORK_STEPS and all(
        moved.get(stage, 0) > 0 or waiting.get(stage) == 0 for stage in _PENDING
    )


_PENDING = ("preprocess", "postprocess")
_A_STEPS_S = 0.05  # of a core, by which an engine that hangs shows no life: a hundredth of one while it is late
_AT_WORK_STEPS = 10  # of the engine, between two looks
# A heartbeat is no sign of the engine's life: a thread beside the engine sends it.
_COUNTERS = {
    "preprocess": "nv_inference_request_success",
    "engine": "conch_engine_steps_total",
    "postprocess": "conch_stream_deltas_total",
}


def _counts(deployment: str, samples: list[Sample], counters: dict[str, str] = _COUNTERS) -> dict[str, float]:
    """The value of each stage's counter."""
    models = dict(zip(_COUNTERS, stage_names(deployment), strict=True))
    return {
        stage: sample.value
        for stage, name in counters.items()
        for sample in samples
        if sample.name == name and (name.startswith("conch_") or sample.labels.get("model") == models[stage])
    }


async def _one_request(spec: Deployment, request_id: str) -> AsyncIterator[service_pb2.ModelInferRequest]:
    request = service_pb2.ModelInferRequest(model_name=spec.name, id=request_id)
    for name in ("input_ids", "max_tokens"):
        request.inputs.add(name=name, datatype="INT32", shape=[1, 1])
        request.raw_input_contents.append(struct.pack("<i", 1))
    yield request
