"""What an answer has gained, as the ensemble's output tensors: which of them have news, and their arrays."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from contract.tensors import MOMENTS
from contract.wire import TopLogprob
from python_backend.postprocess.answer import Answer, Piece


def is_news(name: str, answer: Answer, piece: Piece) -> bool:
    """Whether an output says something in this response."""
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
        case _ if name in MOMENTS:
            return bool(piece.finish) and bool(getattr(answer.timings, name, 0))
        case _:
            return bool(piece.finish)


def _is_first(answer: Answer, piece: Piece) -> bool:
    """Whether this is the stream's first response."""
    return answer.num_output_tokens == len(answer.opening.resumed_ids) + len(piece.ids)


def array_of(name: str, answer: Answer, piece: Piece, bytes_of: Callable[[int], bytes]) -> npt.NDArray[Any]:
    """An output's value.

    Args:
        bytes_of: a token id → the bytes that it stands for.
    """
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
        case _ if name in MOMENTS:
            return np.array([[getattr(answer.timings, name)]], dtype=np.int64)
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
