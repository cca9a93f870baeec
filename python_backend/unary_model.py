"""infer(): one request, one response. Asks an ensemble that streams, which Triton lets nobody ask so.

One thread a request waits for its answer; another looks for clients that left, whose streams it tells the engine to
stop by the key that it gave them. Triton cancels nothing that a model asked, before 2.57.
"""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from contract.errors import InternalError, InvalidRequest, Overloaded, RequestError, from_wire
from contract.nvidia import TOKENS_STREAMING
from contract.stage import ABORT_KEY, new_abort_key
from contract.tensors import ENSEMBLE_ALIAS
from contract.unary import UnaryConfig
from python_backend.backchannel import AbortSender
from python_backend.preprocess.parameters import abort_key, check_parameters, timeout_ns
from python_backend.stage import check_environment, error_response, guarded, told

_FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
_LEFT_CHECK_S = 0.35


class TritonPythonModel:
    """Triton's interface: not decoupled, yet many requests in flight."""

    def initialize(self, args: dict[str, str]) -> None:
        """Make ready; nothing is loaded here."""
        self._config = UnaryConfig.from_json(told(args))
        check_environment(self._config.python_prefix)
        self._aborts = AbortSender(Path(self._config.backchannel))
        self._waiting: dict[int, Any] = {}  # what tells whether the client of a key is still there
        self._looking = threading.Lock()
        self._closing = threading.Event()
        self._threads = ThreadPoolExecutor(self._config.room, "unary")
        self._watch = threading.Thread(target=self._look_for_departed, name="departed", daemon=True)
        self._watch.start()

    def execute(self, requests: list[Any]) -> None:
        """Hand every request to a thread, or refuse it."""
        for request in requests:
            sender = request.get_response_sender()
            if len(self._waiting) >= self._config.room:
                message = f"{len(self._waiting)} requests are in flight, the limit is {self._config.room}"
                sender.send(error_response(Overloaded(message, fix="Try again later")), flags=_FINAL)
                continue
            key = abort_key(json.loads(request.parameters())) or new_abort_key()
            self._waiting[key] = sender
            self._threads.submit(self._respond, request, sender, key)

    def finalize(self) -> None:
        """Wait for the answers under way."""
        self._threads.shutdown()
        self._closing.set()
        self._watch.join(timeout=5)
        self._aborts.close()

    def _respond(self, request: Any, sender: Any, key: int) -> None:
        answer = guarded(self._ask, request, key)
        with self._looking:
            del self._waiting[key]
        sender.send(error_response(answer) if isinstance(answer, RequestError) else answer, flags=_FINAL)

    def _ask(self, request: Any, key: int) -> Any:
        inputs = request.inputs()
        _refuse_streaming(inputs)
        question = pb_utils.InferenceRequest(
            model_name=self._config.asks,
            request_id=request.request_id(),
            correlation_id=request.correlation_id(),
            inputs=inputs,
            requested_output_names=sorted(request.requested_output_names()),
            parameters={**_handed_on(json.loads(request.parameters())), ABORT_KEY: key},
            timeout=request.timeout(),
        )
        answer = None
        for response in question.exec(decoupled=True):
            if response.has_error():
                raise from_wire(response.error().message())
            if response.output_tensors():
                answer = response
        if answer is None:
            raise InternalError("the answer is missing", fix="The server's log says why")
        return pb_utils.InferenceResponse(answer.output_tensors())

    def _look_for_departed(self) -> None:
        while not self._closing.wait(_LEFT_CHECK_S):
            for key in list(self._waiting):
                # Triton dies where it is asked of a request that has had its answer.
                with self._looking:
                    sender = self._waiting.get(key)
                    left = sender is not None and sender.is_cancelled()
                if left:
                    self._aborts.send(key)


def _handed_on(parameters: dict[str, Any]) -> dict[str, Any]:
    """All but fractions, which a model cannot hand on in Triton 2.51; one that asks for something is refused."""
    fractions = {name: value for name, value in parameters.items() if isinstance(value, float)}
    check_parameters(fractions, ())
    timeout_ns(fractions, 0, 0)
    return {name: value for name, value in parameters.items() if name not in fractions}


def _refuse_streaming(inputs: list[Any]) -> None:
    for tensor in inputs:
        if tensor.name() in ("stream", "streaming") and tensor.as_numpy().any():
            raise InvalidRequest(
                "this model answers in one piece",
                field=tensor.name(),
                fix=f"Ask {ENSEMBLE_ALIAS} (text) or {TOKENS_STREAMING} (token ids) over ModelStreamInfer",
            )
