"""The first stage: checks a request, tokenizes its prompt and hands both to the engine as one message."""

from typing import Any

import triton_python_backend_utils as pb_utils

from contract.errors import RequestError
from contract.tensors import ENGINE_REQUEST
from contract.wire import pack
from python_backend.preprocess.reader import RequestReader
from python_backend.stage import error_response, guarded, read_config


class TritonPythonModel:
    """Triton's interface; one response a request."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the tokenizer."""
        self._reader = RequestReader(read_config(args))

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request: the engine's message, or the refusal."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        message = guarded(self._reader.read, request)
        if isinstance(message, RequestError):
            return error_response(message)
        return pb_utils.InferenceResponse([pb_utils.Tensor(ENGINE_REQUEST.name, pack(message))])
