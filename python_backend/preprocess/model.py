"""The first stage: checks a request, tokenizes its prompt and hands both to the engine as one message."""

import json
import time
from typing import Any

import msgspec
import triton_python_backend_utils as pb_utils

from contract.errors import RequestError, Unavailable
from contract.tensors import CANARY_REQUEST_ID, ENGINE_REQUEST
from contract.wire import EngineRequest, pack
from python_backend.preprocess.inputs import check_parameters, read_prompt
from python_backend.preprocess.tokenize import PromptTokenizer
from python_backend.stage import error_response, guarded, read_config


class TritonPythonModel:
    """Triton's interface; one response a request."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the tokenizer."""
        config = read_config(args)
        limits = config.spec.limits
        self._draining = config.draining
        if config.engine is None:
            self._tokenizer = PromptTokenizer.synthetic(limits)
        else:
            text_stays_text = config.spec.chat.control_tokens == "text"
            self._tokenizer = PromptTokenizer.load(config.engine, limits, text_stays_text=text_stays_text)

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request: the engine's message, or the refusal."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        message = guarded(self._engine_request, request)
        if isinstance(message, RequestError):
            return error_response(message)
        return pb_utils.InferenceResponse([pb_utils.Tensor(ENGINE_REQUEST.name, pack(message))])

    def _engine_request(self, request: Any) -> EngineRequest:
        arrival_ns = time.time_ns()
        if self._draining.exists():
            raise Unavailable("the server is stopping", fix="Try again once it is back")
        check_parameters(json.loads(request.parameters()))
        prompt = read_prompt({tensor.name(): tensor.as_numpy() for tensor in request.inputs()})
        ids = self._tokenizer.encode(prompt)
        max_tokens = self._tokenizer.answer_room(prompt, len(ids))
        sampling = self._tokenizer.with_a_real_end(prompt.sampling)
        return EngineRequest(
            input_ids=ids,
            sampling=msgspec.structs.replace(sampling, max_tokens=max_tokens),
            stop=prompt.stop,
            reasoning_tags=prompt.reasoning_tags,
            stream=prompt.stream,
            arrival_ns=arrival_ns,
            stream_interval_ms=prompt.stream_interval_ms,
            deadline_ns=arrival_ns + prompt.timeout_ms * 1_000_000 if prompt.timeout_ms else 0,
            skip_special_tokens=prompt.skip_special_tokens,
            canary=request.request_id() == CANARY_REQUEST_ID,
        )
