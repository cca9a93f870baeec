"""The last stage: ids → text, stop strings, usage and metrics; and it tells the engine when to stop."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

from contract.errors import RequestError, from_wire
from contract.manifest import load_manifest
from contract.tensors import ENGINE_DELTA, FinishReason
from contract.wire import EngineDelta, TopLogprob, unpack_delta
from python_backend.backchannel import AbortSender
from python_backend.metrics import E2E, ITL, TTFT, Metrics
from python_backend.postprocess import lanes
from python_backend.postprocess.answer import Answer, Piece
from python_backend.postprocess.detokenize import Vocabulary
from python_backend.postprocess.token_bytes import token_bytes
from python_backend.stage import error_response, guarded, read_config
from python_backend.synthetic.tokenizer import EOS_ID, synthetic_backend

_FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
_LAG_PERIOD_S = 0.1  # between two words to the engine of how far behind this stage is
_LEFT_CHECK_S = 0.35  # less than a heartbeat; asking Triton whether a client left costs as much as the rest of a delta


@dataclass(slots=True)
class _Stream:
    answer: Answer
    unsent: Piece = field(default_factory=Piece)
    last_token_ns: int = 0
    checked_at: float = 0.0  # when Triton was last asked whether the client left


class TritonPythonModel:
    """Triton's interface: each request is one delta of one stream; it gets one response or none."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the vocabulary."""
        config = read_config(args)
        if config.engine:
            tokenizer = Tokenizer.from_file(str(config.engine / "tokenizer.json"))
            ends = load_manifest(config.engine).eos_token_ids
        else:
            tokenizer, ends = synthetic_backend(), (EOS_ID,)
        self._vocabulary = Vocabulary.of(tokenizer, ends)
        self._bytes_of = token_bytes(tokenizer)
        self._aborts = AbortSender(config.backchannel)
        self._lanes = lanes.Lanes(lanes.count())
        self._streams: dict[int, _Stream] = {}
        self._lag_told_at = 0.0
        self._metrics = Metrics(
            config.spec.name,
            poll=lambda metrics: metrics.gauge("conch_streams_open", len(self._streams), stage="postprocess"),
        )

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
            self._lanes.put(delta.key, partial(sender.send, flags=_FINAL, **whole))

    def finalize(self) -> None:
        """Hand over the last responses and counts."""
        self._lanes.close()
        self._metrics.stop()
        self._aborts.close()

    def _respond(self, request: Any, delta: EngineDelta) -> Any:
        self._metrics.count("conch_stream_deltas_total")
        self._tell_lag(delta)
        if delta.opening:
            self._streams[delta.key] = _Stream(Answer(self._vocabulary, delta.opening))
        stream = self._streams.get(delta.key)
        if stream is None:  # stopped or left earlier; should the engine not know, tell it again
            if not delta.finish:
                self._aborts.send(delta.key)
            return None
        if delta.finish == FinishReason.ERROR:
            self._end(delta.key, stream, FinishReason.ERROR)
            raise from_wire(delta.error)
        if self._left(request, stream):
            self._end(delta.key, stream, FinishReason.CANCELLED)
            self._aborts.send(delta.key)
            return None
        piece = stream.answer.push(delta)
        self._time(stream, len(piece.ids))
        if piece.finish:
            self._end(delta.key, stream, piece.finish)
            if not delta.finish:
                self._aborts.send(delta.key)
        stream.unsent.extend(piece)
        if not (piece.finish or (stream.answer.opening.delivery.stream and stream.unsent.text)):
            return None
        piece, stream.unsent = stream.unsent, Piece()
        return pb_utils.InferenceResponse(self._tensors(stream.answer, piece, request.requested_output_names()))

    def _tensors(self, answer: Answer, piece: Piece, wanted: list[str]) -> list[Any]:
        """The outputs that this client asked for and that say something in this response."""
        return [
            pb_utils.Tensor(name, _array(name, answer, piece, self._bytes_of))
            for name in wanted
            if _is_news(name, answer, piece)
        ]

    def _tell_lag(self, delta: EngineDelta) -> None:
        now = time.monotonic()
        if delta.sent_ns and now - self._lag_told_at >= _LAG_PERIOD_S:
            self._lag_told_at = now
            self._aborts.lag(now - delta.sent_ns / 1e9)

    def _left(self, request: Any, stream: _Stream) -> bool:
        """Whether the client is gone, as of a moment ago."""
        now = time.monotonic()
        if now - stream.checked_at < _LEFT_CHECK_S:
            return False
        stream.checked_at = now
        return bool(request.is_cancelled())

    def _time(self, stream: _Stream, tokens: int) -> None:
        opening = stream.answer.opening
        if not tokens or opening.delivery.canary:
            return
        now = time.time_ns()
        self._metrics.count("conch_generated_tokens_total", tokens)
        if stream.last_token_ns:
            self._metrics.observe(ITL, (now - stream.last_token_ns) / tokens / 1e9, tokens)
        else:
            self._metrics.observe(TTFT, (now - opening.delivery.arrival_ns) / 1e9)
        stream.last_token_ns = now

    def _end(self, key: int, stream: _Stream, reason: str) -> None:
        del self._streams[key]
        opening = stream.answer.opening
        if opening.delivery.canary:
            return
        self._metrics.count("conch_requests_total", finish_reason=str(reason))
        self._metrics.count("conch_prompt_tokens_total", opening.num_input_tokens)
        self._metrics.observe(E2E, (time.time_ns() - opening.delivery.arrival_ns) / 1e9)


def _delta_of(request: Any) -> EngineDelta:
    return unpack_delta(pb_utils.get_input_tensor_by_name(request, ENGINE_DELTA.name).as_numpy())


def _is_news(name: str, answer: Answer, piece: Piece) -> bool:
    match name:
        case "text_output" | "output_ids" | "beam_ids" | "beam_lengths":
            return True
        case "output_log_probs" | "output_tokens":
            return bool(piece.log_probs)
        case "top_log_probs":
            return bool(piece.top_log_probs)
        case "matched_stop":
            return bool(piece.matched_stop)
        case "num_input_tokens":
            return _is_first(answer, piece) or bool(piece.finish)
        case "prompt_log_probs":
            return _is_first(answer, piece) and bool(answer.prompt_log_probs)
        case "prompt_tokens":
            return _is_first(answer, piece) and bool(answer.opening.scored_ids)
        case "prompt_top_log_probs":
            return _is_first(answer, piece) and bool(answer.prompt_top_log_probs)
        case "num_cached_tokens":
            return bool(piece.finish) and answer.cached_tokens is not None
        case "cum_log_probs":
            return bool(piece.finish) and answer.opening.return_log_probs
        case _:
            return bool(piece.finish)


def _is_first(answer: Answer, piece: Piece) -> bool:
    """Whether this is the stream's first response."""
    return answer.num_output_tokens == len(piece.ids)


def _array(name: str, answer: Answer, piece: Piece, bytes_of: Callable[[int], bytes]) -> npt.NDArray[Any]:
    match name:
        case "text_output":
            return _bytes(answer.prompt + piece.text)
        case "finish_reason":
            return _bytes(piece.finish)
        case "matched_stop":
            return _bytes(piece.matched_stop)
        case "output_ids":
            return np.array([piece.ids], dtype=np.int32)
        case "beam_ids":
            return np.array([[answer.opening.prompt_ids + piece.ids]], dtype=np.int32)
        case "beam_lengths":
            return np.array([[len(answer.opening.prompt_ids) + len(piece.ids)]], dtype=np.int32)
        case "num_input_tokens":
            return np.array([[answer.opening.num_input_tokens]], dtype=np.int32)
        case "num_output_tokens":
            return np.array([[answer.num_output_tokens]], dtype=np.int32)
        case "num_cached_tokens":
            return np.array([[answer.cached_tokens]], dtype=np.int32)
        case "cum_log_probs":
            return np.array([[answer.cum_log_prob]], dtype=np.float32)
        case "output_log_probs":
            return np.array([[piece.log_probs]], dtype=np.float32)
        case "top_log_probs":
            return _ranked(piece.top_log_probs, bytes_of)
        case "prompt_log_probs":
            return np.array([answer.prompt_log_probs], dtype=np.float32)
        case "prompt_top_log_probs":
            return _ranked(answer.prompt_top_log_probs, bytes_of)
        case "prompt_tokens":
            return _bytes(json.dumps([list(bytes_of(token)) for token in answer.opening.scored_ids]))
        case "output_tokens":
            return _bytes(json.dumps([list(bytes_of(token)) for token in piece.ids]))
        case _:
            raise ValueError(f"no output {name}")


def _ranked(positions: list[list[TopLogprob]], bytes_of: Callable[[int], bytes]) -> npt.NDArray[Any]:
    """The alternatives at each position, the likeliest first."""
    return _bytes(
        json.dumps([[(top.token_id, top.logprob, list(bytes_of(top.token_id))) for top in tops] for tops in positions])
    )


def _bytes(text: str) -> npt.NDArray[Any]:
    """Text as NVIDIA's postprocessing has it: without a batch dimension."""
    return np.array([text.encode()], dtype=np.object_)
