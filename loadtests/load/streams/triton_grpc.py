"""Triton's gRPC ``ModelStreamInfer``: one bidirectional call a request, over channels that the process shares.

gRPC's core has threads of its own, which gevent cannot see; ``init_gevent`` has it poll on gevent's instead. It must
be called after gevent has patched the standard library and before the first channel.
"""

import itertools
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import grpc
from grpc.experimental import gevent as grpc_gevent
from tritonclient.grpc import service_pb2

from clients.wire import to_message
from loadtests.load.fault import StreamFault
from loadtests.load.rows import Outcome, Row
from loadtests.load.streams import triton
from loadtests.load.streams.target import Clock, Target
from loadtests.load.workload import Ask

_CHANNELS = 4  # so that no connection's flow control holds up every stream
_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
)
_OUTCOMES = {
    grpc.StatusCode.UNAVAILABLE: Outcome.CONNECT,
    grpc.StatusCode.DEADLINE_EXCEEDED: Outcome.TIMEOUT,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Outcome.RATE_LIMITED,
    grpc.StatusCode.INVALID_ARGUMENT: Outcome.REFUSED,
    grpc.StatusCode.NOT_FOUND: Outcome.REFUSED,
}


@cache
def init_grpc_for_gevent() -> None:
    """Once a process, before anything of gRPC."""
    grpc_gevent.init_gevent()


class TritonGrpc:
    """The transport."""

    def __init__(self, target: Target) -> None:
        self._target = target
        host, port = target.address
        channels = [grpc.insecure_channel(f"{host}:{port}", options=_OPTIONS) for _ in range(_CHANNELS)]
        self._calls = itertools.cycle([_call(channel) for channel in channels])

    def __call__(self, ask: Ask, row: Row, clock: Clock) -> str:
        """See :class:`loadtests.load.streams.target.Stream`."""
        message = to_message(self._target.model, triton.tensors(ask), outputs=())  # none named: all that the server has
        call = next(self._calls)(message, timeout=self._target.timeout_s, metadata=tuple(self._target.headers.items()))
        text: list[str] = []
        held = 0
        refusal: StreamFault | None = None
        try:
            for response in call:
                now = clock()
                row.first_byte = row.first_byte or now
                row.ended = now
                if response.error_message:  # read on: Triton 2.51 never lets go of a request cancelled right here
                    refusal = refusal or triton.fault(response.error_message, row)
                    continue
                held = _take(response.infer_response, now, row, text, held)
                if ask.cancel_after is not None and len(row.chunks) >= ask.cancel_after:
                    row.outcome = Outcome.CANCELLED
                    break
        except grpc.RpcError as error:
            outcome = _OUTCOMES.get(error.code(), Outcome.SERVER_ERROR)
            if row.chunks and outcome is not Outcome.TIMEOUT:
                outcome = Outcome.TRUNCATED
            raise refusal or StreamFault(outcome, error.details() or error.code().name) from None
        finally:
            call.cancel()
        if refusal:
            raise refusal
        return "".join(text)


def _call(channel: grpc.Channel) -> Callable[..., Any]:
    """``ModelStreamInfer`` with one request: on the wire the same as a call that takes one and streams responses.

    Asked for as such, gRPC sends everything at once and needs no second greenlet to feed the call.
    """
    return channel.unary_stream(  # type: ignore[no-any-return]
        "/inference.GRPCInferenceService/ModelStreamInfer",
        request_serializer=service_pb2.ModelInferRequest.SerializeToString,
        response_deserializer=service_pb2.ModelStreamInferResponse.FromString,
    )


def _take(response: service_pb2.ModelInferResponse, now: float, row: Row, text: list[str], held: int) -> int:
    """One response's tensors into the row; returns the tokens whose text has not come yet."""
    piece = ""
    times: dict[str, int] = {}
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        match output.name:
            case "text_output":
                piece = _text(raw)
            case "output_ids":
                held += len(raw) // 4
                row.output_tokens += len(raw) // 4
            case "finish_reason":
                row.finish_reason = _text(raw) or row.finish_reason
            case "num_input_tokens":
                row.prompt_tokens = _number(raw)
            case "num_output_tokens":
                row.output_tokens = _number(raw) or row.output_tokens
            case triton.ARRIVED | triton.SCHEDULED as name:
                times[name] = int.from_bytes(raw[:8], "little", signed=True)
    if piece:
        text.append(piece)
        row.chunks.append((now, held))
        held = 0
    if len(times) == 2:
        row.queued_s = (times[triton.SCHEDULED] - times[triton.ARRIVED]) / 1e9
    return held


def _text(raw: bytes) -> str:
    return raw[4:].decode(errors="replace")


def _number(raw: bytes) -> int:
    return int(sum(struct.unpack(f"<{len(raw) // 4}i", raw)))
