"""The ensemble's input tensors → one checked :class:`Prompt`. No tokenizer here: see tokenize.py."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from contract.errors import InvalidRequest
from contract.nvidia import ALL_INPUT_BY_NAME, ALL_INPUTS
from contract.sampling import SamplingParams, check_bounds
from contract.tensors import Decision

Tensors = Mapping[str, npt.NDArray[Any]]

_SAMPLING = frozenset(SamplingParams.__struct_fields__)
_PROMPTS = ("text_input", "messages", "input_ids")
_ALIASES = {tensor.name: tensor.alias_of for tensor in ALL_INPUTS if tensor.alias_of}


@dataclass(frozen=True)
class Prompt:
    """What a request says; exactly one of text, messages and input_ids is given."""

    text: str | None
    messages: list[Any] | None
    input_ids: list[int] | None
    tools: list[Any] | None
    template_kwargs: dict[str, Any]
    sampling: SamplingParams
    stop: tuple[str, ...]
    stream: bool
    stream_interval_ms: int
    timeout_ms: int
    skip_special_tokens: bool
    include_stop: bool = False
    with_prompt: bool = False  # a whole answer begins with the prompt
    timed: bool = False  # when it was what is told with the answer
    biased_words: tuple[tuple[str, float], ...] = ()
    stop_ids: tuple[tuple[int, ...], ...] = ()  # stop strings and bad words that came as token ids
    bad_ids: tuple[tuple[int, ...], ...] = ()
    reasoning_tags: tuple[str, ...] = ()
    resumed_chars: int = 0


def read_prompt(tensors: Tensors) -> Prompt:
    """Check every tensor of a request.

    Args:
        tensors: the given inputs by name; each [1, n], BYTES as objects.

    Raises:
        InvalidRequest: naming the tensor.
    """
    _refuse_a_batch(tensors)
    values = {name: _plain(name, array) for name, array in tensors.items()}
    _check_decided(values)
    _take_aliases(values)
    _drop_not_given(values)
    given = [name for name in _PROMPTS if name in values]
    if len(given) != 1:
        raise InvalidRequest(
            f"give exactly one of text_input, messages and input_ids, got {' and '.join(given) or 'none'}",
            field=given[1] if given else "text_input",
        )
    for name in _PROMPTS:
        if name in values and not values[name]:
            raise InvalidRequest("is empty", field=name)
    for name in ("stream_interval_ms", "timeout_ms", "resumed_chars"):
        if values.get(name, 0) < 0:
            raise InvalidRequest(f"must be 0 or more, got {values[name]}", field=name)
    if values.get("resumed_chars") and not values.get("resumed_ids"):
        raise InvalidRequest("is needed with resumed_chars", field="resumed_ids")
    for name in ("stop_words", "bad_words"):  # NVIDIA's clients send [""] for none
        values[name] = tuple(word for word in values.get(name, ()) if word)
    values["logit_bias"] = _logit_bias(values)
    stream = values.get("stream", False)
    token_level = "input_lengths" in values
    if token_level and "end_id" not in values:  # NVIDIA's engine knows no end but the one that it is told
        values["ignore_eos"] = True
    sampling = SamplingParams(**{name: value for name, value in values.items() if name in _SAMPLING})
    check_bounds(sampling)
    return Prompt(
        text=values.get("text_input"),
        messages=_json(values, "messages", list),
        input_ids=_input_ids(values),
        tools=_json(values, "tools", list),
        template_kwargs=_json(values, "chat_template_kwargs", dict) or {},
        sampling=sampling,
        stop=values["stop_words"],
        stream=stream,
        stream_interval_ms=values.get("stream_interval_ms", 0),
        timeout_ms=values.get("timeout_ms", 0),
        skip_special_tokens=values.get("skip_special_tokens", True),
        include_stop=values.get("include_stop_str_in_output", False),
        timed=values.get("return_perf_metrics", False),
        with_prompt=not stream and not values.get("exclude_input_in_output", not token_level),
        biased_words=_biased_words(values),
        stop_ids=_id_lists(values, "stop_words_list"),
        bad_ids=_id_lists(values, "bad_words_list"),
        reasoning_tags=_tags(values.get("reasoning_tags", ())),
        resumed_chars=values.get("resumed_chars", 0),
    )


def _refuse_a_batch(tensors: Tensors) -> None:
    """Triton has seen to it that all of them have the same number of rows."""
    for name in (*_PROMPTS, *tensors):
        if name in tensors and len(tensors[name]) > 1:
            raise InvalidRequest(
                f"{len(tensors[name])} prompts in one request, of shape {list(tensors[name].shape)}",
                field=name,
                fix="Send each in a request of its own, without waiting: the engine batches what runs at once",
            )


def _check_decided(values: Mapping[str, Any]) -> None:
    """Refuse what asks for something that is not served."""
    for name, value in values.items():
        tensor = ALL_INPUT_BY_NAME[name]
        if tensor.decision is Decision.NEUTRAL and value not in tensor.neutral:
            allowed = " or ".join(map(repr, tensor.neutral))
            raise InvalidRequest(f"must be {allowed}, got {value!r:.40}", field=name, fix=tensor.doc.rstrip("."))


def _take_aliases(values: dict[str, Any]) -> None:
    """Older names become the newer ones; both may be given where they agree."""
    for alias, name in _ALIASES.items():
        if alias not in values:
            continue
        value = values.pop(alias)
        if values.setdefault(name, value) != value:
            raise InvalidRequest(f"must agree with {name}, its newer name: {value} is not {values[name]}", field=alias)


def _drop_not_given(values: dict[str, Any]) -> None:
    """What NVIDIA's clients send for "not given" counts as not given, and what is greedy there is greedy here."""
    if values.get("top_k", 1) <= 0:
        del values["top_k"]
    if values.get("top_p", 1) <= 0:
        del values["top_p"]
        values.setdefault("top_k", 1)
    if values.get("end_id") == -1:
        del values["end_id"]
    if values.get("beam_width") == 0:
        del values["beam_width"]


def _tags(given: tuple[str, ...]) -> tuple[str, ...]:
    if given and (len(given) != 2 or not given[1]):
        raise InvalidRequest("must be what opens and what closes the reasoning", field="reasoning_tags")
    return given


def _plain(name: str, array: npt.NDArray[Any]) -> Any:
    """A tensor as Python values: a scalar where the contract says [1], else a tuple."""
    flat = array.reshape(-1)
    values = tuple(_text(name, value) for value in flat) if flat.dtype == np.object_ else tuple(flat.tolist())
    return values[0] if ALL_INPUT_BY_NAME[name].dims == (1,) else values


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"is not UTF-8: byte 0x{value[error.start]:02x} at offset {error.start}", field=name
        ) from None


def _logit_bias(values: Mapping[str, Any]) -> dict[int, float]:
    biases = _json(values, "logit_bias", dict) or {}
    try:
        named = {int(token): float(bias) for token, bias in biases.items()}
    except (TypeError, ValueError):
        raise InvalidRequest("must map token ids to numbers", field="logit_bias") from None
    return named | {token: bias for token, bias in enumerate(values.get("embedding_bias", ())) if bias}


def _biased_words(values: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
    words, weights = values.get("embedding_bias_words", ()), values.get("embedding_bias_weights", ())
    if len(words) != len(weights):
        raise InvalidRequest(
            f"must hold one weight a word, got {len(weights)} for {len(words)}", field="embedding_bias_weights"
        )
    return tuple(zip(words, weights, strict=True))


def _input_ids(values: Mapping[str, Any]) -> list[int] | None:
    if "input_ids" not in values:
        return None
    ids = list(values["input_ids"])
    length = values.get("input_lengths", len(ids))
    if not 0 < length <= len(ids):
        raise InvalidRequest(
            f"must be in [1, {len(ids)}], the number of input_ids, got {length}", field="input_lengths"
        )
    return ids[:length]


def _id_lists(values: Mapping[str, Any], name: str) -> tuple[tuple[int, ...], ...]:
    """NVIDIA's [2, n]: the ids of all words one after the other, then where each word ends, -1 for none."""
    flat = values.get(name, ())
    ids, ends = flat[: len(flat) // 2], [end for end in flat[len(flat) // 2 :] if end != -1]
    starts = [0, *ends[:-1]]
    if any(not 0 <= start < end <= len(ids) for start, end in zip(starts, ends, strict=False)):
        raise InvalidRequest(f"must hold token ids and the growing offsets of their ends, got {ends[:8]}", field=name)
    return tuple(tuple(ids[start:end]) for start, end in zip(starts, ends, strict=False))


def _json(values: Mapping[str, Any], name: str, kind: type) -> Any:
    """A JSON tensor as the list or object it must be, or None."""
    if name not in values:
        return None
    try:
        parsed = json.loads(values[name])
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"is not JSON: {error}", field=name) from None
    if not isinstance(parsed, kind):
        wanted = "a JSON list" if kind is list else "a JSON object"
        raise InvalidRequest(f"must be {wanted}, got {type(parsed).__name__}", field=name)
    if name == "messages":
        _check_messages(parsed)
    if name == "tools":
        _check_tools(parsed)
    return parsed


def _check_tools(tools: Any) -> None:
    if not all(isinstance(tool, dict) for tool in tools):
        raise InvalidRequest("must hold JSON objects", field="tools")


def _check_messages(messages: Any) -> None:
    if not messages:
        raise InvalidRequest("is empty", field="messages")
    for at, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise InvalidRequest(
                f"messages[{at}] must be an object with a role, got {json.dumps(message)[:80]}", field="messages"
            )
        content = message.get("content")
        if not isinstance(content, str | list | None) or (content is None and "tool_calls" not in message):
            raise InvalidRequest(f"messages[{at}].content must be text", field="messages")
