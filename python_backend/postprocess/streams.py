"""The streams that one process answers: what a delta settles becomes a response, and what ends is counted."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

from contract.errors import from_wire
from contract.manifest import load_manifest
from contract.stage import StageConfig
from contract.tensors import FinishReason
from contract.wire import EngineDelta
from python_backend.metrics import E2E, ITL, TTFT, Metrics
from python_backend.postprocess.answer import Answer, Piece
from python_backend.postprocess.detokenize import Vocabulary
from python_backend.postprocess.outputs import array_of, is_news
from python_backend.postprocess.token_bytes import token_bytes
from python_backend.synthetic.tokenizer import EOS_ID, synthetic_backend

_LEFT_CHECK_S = 0.35  # less than a heartbeat; asking Triton whether a client left costs as much as the rest of a delta


@dataclass(slots=True)
class _Stream:
    answer: Answer
    unsent: Piece = field(default_factory=Piece)
    last_token_ns: int = 0
    checked_at: float = 0.0  # when Triton was last asked whether the client left


@dataclass(frozen=True)
class Speech:
    """How a deployment's ids are said."""

    vocabulary: Vocabulary
    bytes_of: Callable[[int], bytes]

    @classmethod
    def load(cls, config: StageConfig) -> "Speech":
        """From the tokenizer beside its engine (a second or two)."""
        if config.engine:
            tokenizer = Tokenizer.from_file(str(config.engine / "tokenizer.json"))
            ends = load_manifest(config.engine).eos_token_ids
        else:
            tokenizer, ends = synthetic_backend(), (EOS_ID,)
        return cls(Vocabulary.of(tokenizer, ends), token_bytes(tokenizer))


class Streams:
    """Answers on their way to their clients.

    Args:
        abort: tells the engine to stop a stream.
    """

    def __init__(self, speech: Speech, metrics: Metrics, abort: Callable[[int], None]) -> None:
        self._speech, self._metrics, self._abort = speech, metrics, abort
        self._streams: dict[int, _Stream] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, key: int) -> bool:
        return key in self._streams

    def respond(self, request: Any, delta: EngineDelta) -> Any:
        """The response that this delta is worth; None where it is none.

        Args:
            request: Triton's, which tells the outputs that are wanted and whether the client has left.

        Raises:
            RequestError: what ended the stream. Whatever is raised, the stream is forgotten and the engine stops it.
        """
        try:
            return self._respond(request, delta)
        except Exception:
            if self._streams.pop(delta.key, None):
                self._abort(delta.key)
            raise

    def _respond(self, request: Any, delta: EngineDelta) -> Any:
        if delta.opening:
            self._streams[delta.key] = _Stream(Answer(self._speech.vocabulary, delta.opening))
        stream = self._streams.get(delta.key)
        if stream is None:  # stopped or left earlier; should the engine not know, tell it again
            if not delta.finish:
                self._abort(delta.key)
            return None
        if delta.finish == FinishReason.ERROR:
            self._end(delta.key, stream, FinishReason.ERROR)
            raise from_wire(delta.error)
        if _left(request, stream):
            self._end(delta.key, stream, FinishReason.CANCELLED)
            self._abort(delta.key)
            return None
        piece = stream.answer.push(delta)
        self._time(stream, len(piece.ids))
        if piece.finish:
            self._end(delta.key, stream, piece.finish)
            if not delta.finish:
                self._abort(delta.key)
        stream.unsent.extend(piece)
        if not (piece.finish or (stream.answer.opening.delivery.stream and stream.unsent.text)):
            return None
        piece, stream.unsent = stream.unsent, Piece()
        return pb_utils.InferenceResponse(self._tensors(stream.answer, piece, request.requested_output_names()))

    def _tensors(self, answer: Answer, piece: Piece, wanted: list[str]) -> list[Any]:
        """The outputs that this client asked for and that say something in this response."""
        return [
            pb_utils.Tensor(name, array_of(name, answer, piece, self._speech.bytes_of))
            for name in wanted
            if is_news(name, answer, piece)
        ]

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


def _left(request: Any, stream: _Stream) -> bool:
    """Whether the client is gone, as of a moment ago."""
    now = time.monotonic()
    if now - stream.checked_at < _LEFT_CHECK_S:
        return False
    stream.checked_at = now
    return bool(request.is_cancelled())
