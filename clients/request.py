"""What a client says and hears, whatever the transport: keyword arguments in, deltas out."""

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from contract.errors import InvalidRequest
from contract.tensors import INPUT_BY_NAME

Inputs = dict[str, Any]
_JSON = ("messages", "tools", "chat_template_kwargs", "logit_bias")


@dataclass(frozen=True)
class Timings:
    """When what of an answer happened, in ns on the server's monotonic clock; 0 where it does not tell."""

    received_time_ns: int = 0  # it had the request
    arrival_time_ns: int = 0  # its engine had it
    first_scheduled_time_ns: int = 0  # and took it up
    first_token_time_ns: int = 0
    last_token_time_ns: int = 0


@dataclass(frozen=True)
class Delta:
    """What one response adds to an answer. The counts and the reason come with the last one."""

    text: str = ""
    output_ids: tuple[int, ...] = ()
    finish_reason: str = ""
    num_input_tokens: int = 0
    num_output_tokens: int = 0
    num_cached_tokens: int | None = None  # of the prompt, where the engine tells
    log_probs: tuple[float, ...] = ()
    tokens: tuple[bytes, ...] = ()  # of output_ids, with return_log_probs
    matched_stop: str = ""  # the stop string that ended the answer
    top_log_probs: tuple[tuple[tuple[bytes, float], ...], ...] = ()  # alternatives of each of output_ids, with logprobs
    prompt_log_probs: tuple[float, ...] = ()  # of the prompt's tokens but the first, with prompt_logprobs
    prompt_tokens: tuple[bytes, ...] = ()
    prompt_top_log_probs: tuple[tuple[tuple[bytes, float], ...], ...] = ()  # alternatives of each of prompt_log_probs
    timings: Timings | None = None  # with return_perf_metrics, in the last response
    by_another: bool = False  # the server that was asked first failed, and another one answered


@dataclass(frozen=True)
class Tokens:
    """A prompt as the model's tokenizer has it."""

    ids: list[int]
    tokens: list[str]  # the ids as the vocabulary has them
    text: str  # of the ids, special tokens included


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    text: str
    output_ids: tuple[int, ...] = field(repr=False)
    finish_reason: str
    num_input_tokens: int
    num_output_tokens: int
    log_probs: tuple[float, ...] = field(repr=False, default=())
    prompt_log_probs: tuple[float, ...] = field(repr=False, default=())


def inputs_of(prompt: str | None, options: dict[str, Any], *, stream: bool) -> Inputs:
    """The input tensors of a request, by name, as plain values.

    Args:
        prompt: the text, or None where ``messages`` or ``input_ids`` is among the options.
        options: any other input of the ensemble by its tensor name; None means "not given".

    Raises:
        InvalidRequest: an option that is no input, with the nearest that is.
    """
    inputs: Inputs = {} if prompt is None else {"text_input": prompt}
    for name, value in options.items():
        if name not in INPUT_BY_NAME:
            near = difflib.get_close_matches(name, INPUT_BY_NAME, n=1)
            raise InvalidRequest("is no parameter", field=name, fix=f"Did you mean {near[0]}?" if near else "")
        if value is not None:
            inputs[name] = json.dumps(value) if name in _JSON and not isinstance(value, str) else value
    return {**inputs, "stream": stream}


def joined(deltas: Iterable[Delta]) -> Answer:
    """The answer that a stream of deltas makes.

    Raises:
        InvalidRequest: there was none.
    """
    parts = list(deltas)
    if not parts:
        raise InvalidRequest("the stream had no answer")
    last = parts[-1]
    return Answer(
        text="".join(part.text for part in parts),
        output_ids=tuple(token for part in parts for token in part.output_ids),
        finish_reason=last.finish_reason,
        num_input_tokens=last.num_input_tokens,
        num_output_tokens=last.num_output_tokens,
        log_probs=tuple(value for part in parts for value in part.log_probs),
        prompt_log_probs=parts[0].prompt_log_probs,
    )
