"""The last stage: ids → text, stop strings, usage and metrics; and it tells the engine when to stop."""

from functools import partial
from typing import Any

import triton_python_backend_utils as pb_utils

from contract.errors import RequestError
from contract.tensors import ENGINE_DELTA
from contract.wire import EngineDelta, unpack_delta
from python_backend.backchannel import AbortSender
from python_backend.metrics import Metrics
from python_backend.postprocess import lanes
from python_backend.postprocess.streams import Speech, Streams
from python_backend.stage import error_response, guarded, read_config

_FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    """Triton's interface: each request is one delta of one stream; it gets one response or none."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the vocabulary."""
        config = read_config(args)
        speech = Speech.load(config)
        self._aborts = AbortSender(config.backchannel)
        self._lanes = lanes.Lanes(lanes.count(), self._aborts.lag)
        self._metrics = Metrics(
            config.spec.name,
            poll=lambda metrics: metrics.gauge("conch_streams_open", len(self._streams), stage="postprocess"),
        )
        self._streams = Streams(speech, self._metrics, self._aborts.send)

    def execute(self, requests: list[Any]) -> None:
        """Turn each delta into the response that its client gets."""
        for request in requests:
            sender = request.get_response_sender()
            delta = guarded(_delta_of, request)
            if isinstance(delta, RequestError):
                sender.send(error_response(delta), flags=_FINAL)
                continue
            answer = guarded(self._respond, request, delta)
            if isinstance(answer, RequestError):
                answer = error_response(answer)
            whole = {} if answer is None else {"response": answer}
            self._lanes.put(delta.key, partial(sender.send, flags=_FINAL, **whole), delta.sent_ns / 1e9)

    def finalize(self) -> None:
        """Hand over the last responses and counts."""
        self._lanes.close()
        self._metrics.stop()
        self._aborts.close()

    def _respond(self, request: Any, delta: EngineDelta) -> Any:
        self._metrics.count("conch_stream_deltas_total")
        return self._streams.respond(request, delta)


def _delta_of(request: Any) -> EngineDelta:
    return unpack_delta(pb_utils.get_input_tensor_by_name(request, ENGINE_DELTA.name).as_numpy())
