"""A client's request → the engine's, in whichever stage: inputs and parameters checked, the prompt tokenized."""

import json
import secrets
import time
from typing import Any

import msgspec

from contract.errors import Unavailable
from contract.nvidia import model_names
from contract.sampling import resumed
from contract.stage import StageConfig, whose_of
from contract.wire import TOKENIZE, Delivery, EngineRequest
from python_backend.preprocess.inputs import read_prompt
from python_backend.preprocess.parameters import (
    abort_key,
    check_no_sequence,
    check_parameters,
    check_request_id,
    timeout_ns,
)
from python_backend.preprocess.tokenize import PromptTokenizer


class RequestReader:
    """Reads the requests of one deployment."""

    def __init__(self, config: StageConfig) -> None:
        limits = config.spec.limits
        self._draining, self._canary = config.draining, config.canary_id
        self._models = model_names(config.spec.name)
        if config.engine is None:
            self._tokenizer = PromptTokenizer.synthetic(limits)
        else:
            text_stays_text = config.spec.chat.control_tokens == "text"
            self._tokenizer = PromptTokenizer.load(config.engine, limits, text_stays_text=text_stays_text)

    def read(self, request: Any) -> EngineRequest:
        """What the engine is asked; or, for a request that asks for its tokens alone, what those are.

        Args:
            request: Triton's, with any of the ensemble's inputs.

        Raises:
            RequestError: naming the tensor or the parameter.
        """
        arrival_ns, received_ns = time.time_ns(), time.monotonic_ns()
        if self._draining.exists():
            raise Unavailable("the server is stopping", fix="Try again once it is back")
        request_id = check_request_id(request.request_id())
        parameters = json.loads(request.parameters())
        check_parameters(parameters, self._models)
        check_no_sequence(request.correlation_id())
        prompt = read_prompt({tensor.name(): tensor.as_numpy() for tensor in request.inputs()})
        if TOKENIZE in parameters:
            return self._tokenizer.tokenized(prompt, add_special_tokens=parameters[TOKENIZE] is True)
        timeout = timeout_ns(parameters, request.timeout(), prompt.timeout_ms)
        ids = self._tokenizer.encode(prompt)
        max_tokens = self._tokenizer.answer_room(prompt, len(ids))
        sampling, stop = self._tokenizer.with_words(prompt, self._tokenizer.with_a_real_end(prompt.sampling))
        return EngineRequest(
            input_ids=ids,
            sampling=resumed(msgspec.structs.replace(sampling, max_tokens=max_tokens)),
            delivery=Delivery(
                stream=prompt.stream,
                stop=stop,
                reasoning_tags=prompt.reasoning_tags,
                skip_special_tokens=prompt.skip_special_tokens,
                include_stop=prompt.include_stop,
                resumed_chars=prompt.resumed_chars,
                arrival_ns=arrival_ns,
                received_ns=received_ns if prompt.timed else 0,
                canary=bool(self._canary) and secrets.compare_digest(request_id.encode(), self._canary.encode()),
            ),
            stream_interval_ms=prompt.stream_interval_ms,
            deadline_ns=arrival_ns + timeout if timeout else 0,
            with_prompt=prompt.with_prompt,
            key=abort_key(parameters),
            whose=whose_of(request_id),
        )
