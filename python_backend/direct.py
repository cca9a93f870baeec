"""The engine's stage as the whole of the way: it reads a client's own request and answers it, without other stages.

Each response of the ensemble crosses a process and Triton's scheduler more than here. What reads and answers is the
very code of preprocess and postprocess; and Triton tells this stage itself that a client has left.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import triton_python_backend_utils as pb_utils

from contract.errors import RequestError
from contract.stage import StageConfig
from contract.tensors import ENGINE_DELTA
from contract.wire import EngineDelta, EngineRequest
from python_backend.metrics import Metrics
from python_backend.outbox import Outbox, Send
from python_backend.postprocess import lanes
from python_backend.postprocess.streams import Speech, Streams
from python_backend.preprocess.reader import RequestReader
from python_backend.protocol import Engine
from python_backend.stage import error_response, guarded

_FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


@dataclass(frozen=True)
class _Client:
    """What is still asked of a request once it was read: held itself, it would hold the memory of its inputs."""

    wanted: list[str]
    sender: Any

    def requested_output_names(self) -> list[str]:
        """As Triton's request has it."""
        return self.wanted

    def is_cancelled(self) -> bool:
        """Likewise."""
        return bool(self.sender.is_cancelled())


class Direct:
    """Clients of the engine's stage."""

    def __init__(self, reader: RequestReader, speech: Speech, engine: Engine, outbox: Outbox, metrics: Metrics) -> None:
        def leave(key: int) -> None:
            outbox.drop(key)
            engine.abort(key)

        self._reader = reader
        self._streams = Streams(speech, metrics, leave)
        self._lanes = lanes.Lanes(lanes.count(), outbox.pressure.told)

    def read(self, request: Any) -> EngineRequest:
        """What a client asks the engine for.

        Raises:
            RequestError: naming the tensor or the parameter.
        """
        return self._reader.read(request)

    def answering(self, request: Any, sender: Any) -> Send:
        """What makes responses to this request of a stream's deltas; the last one closes it."""
        # Who names no outputs is given all that the stage has; its message to the other stages is not for clients.
        wanted = [name for name in request.requested_output_names() if name != ENGINE_DELTA.name]
        client = _Client(wanted, sender)

        def send(delta: EngineDelta) -> None:
            response = guarded(self._streams.respond, client, delta)
            if isinstance(response, RequestError):
                response = error_response(response)
            ended = delta.key not in self._streams
            if response is not None or ended:
                whole = {} if response is None else {"response": response}
                give = partial(sender.send, flags=_FINAL if ended else 0, **whole)
                self._lanes.put(delta.key, give, time.monotonic())

        return send

    def close(self) -> None:
        """Hand over the last responses."""
        self._lanes.close()


Make = Callable[[Engine, Outbox, Metrics], Direct]


def load(config: StageConfig) -> Make:
    """The tokenizer for both directions (a second or two); what is left to do costs nothing."""
    return partial(Direct, RequestReader(config), Speech.load(config))
