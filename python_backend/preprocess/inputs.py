"""The ensemble's input tensors → one checked :class:`Prompt`. No tokenizer here: see tokenize.py."""

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from contract.errors import InvalidRequest
from contract.sampling import SamplingParams, check_bounds
from contract.tensors import INPUT_BY_NAME

Tensors = Mapping[str, npt.NDArray[Any]]

_SAMPLING = frozenset(SamplingParams.__struct_fields__)
# Accepted from NVIDIA's clients where they ask for what happens anyway; refused by name otherwise.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_return_sequences": (1,),
    "length_penalty": (0.0, 1.0),
    "exclude_input_in_output": (True,),
    "return_context_logits": (False,),
    "return_generation_logits": (False,),
    "return_perf_metrics": (False,),
}


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
    reasoning_tags: tuple[str, ...] = ()


def read_prompt(tensors: Tensors) -> Prompt:
    """Check every tensor of a request.

    Args:
        tensors: the given inputs by name; each [1, n], BYTES as objects.

    Raises:
        InvalidRequest: naming the tensor.
    """
    values = {name: _plain(name, array) for name, array in tensors.items()}
    for name, allowed in _NEUTRAL.items():
        if name in values and values[name] not in allowed:
            raise InvalidRequest(f"must be {' or '.join(map(str, allowed))}, got {values[name]}", field=name)
    given = [name for name in ("text_input", "messages", "input_ids") if name in values]
    if len(given) != 1:
        raise InvalidRequest(
            f"give exactly one of text_input, messages and input_ids, got {' and '.join(given) or 'none'}",
            field=given[1] if given else "text_input",
        )
    for name in ("text_input", "messages", "input_ids"):
        if name in values and not values[name]:
            raise InvalidRequest("is empty", field=name)
    for name in ("stream_interval_ms", "timeout_ms"):
        if values.get(name, 0) < 0:
            raise InvalidRequest(f"must be 0 or more, got {values[name]}", field=name)
    for name in ("stop_words", "bad_words"):  # NVIDIA's clients send [""] for none
        values[name] = tuple(word for word in values.get(name, ()) if word)
    values["logit_bias"] = _logit_bias(values)
    sampling = SamplingParams(**{name: value for name, value in values.items() if name in _SAMPLING})
    check_bounds(sampling)
    return Prompt(
        text=values.get("text_input"),
        messages=_json(values, "messages", list),
        input_ids=list(values["input_ids"]) if "input_ids" in values else None,
        tools=_json(values, "tools", list),
        template_kwargs=_json(values, "chat_template_kwargs", dict) or {},
        sampling=sampling,
        stop=values["stop_words"],
        stream=values.get("stream", False),
        stream_interval_ms=values.get("stream_interval_ms", 0),
        timeout_ms=values.get("timeout_ms", 0),
        skip_special_tokens=values.get("skip_special_tokens", True),
        reasoning_tags=_tags(values.get("reasoning_tags", ())),
    )


def check_parameters(parameters: Iterable[str]) -> None:
    """Refuse a misspelt input: over HTTP, Triton makes a parameter of every field that is no tensor.

    Args:
        parameters: the names; those that are like no input are somebody else's and do no harm.

    Raises:
        InvalidRequest: naming the parameter and the input that it is like.
    """
    for name in parameters:
        near = difflib.get_close_matches(name, INPUT_BY_NAME, n=1, cutoff=0.8)
        if near and name != "timeout":  # Triton's own
            raise InvalidRequest("is no parameter", field=name, fix=f"Did you mean {near[0]}?")


def _tags(given: tuple[str, ...]) -> tuple[str, ...]:
    if given and (len(given) != 2 or not given[1]):
        raise InvalidRequest("must be what opens and what closes the reasoning", field="reasoning_tags")
    return given


def _plain(name: str, array: npt.NDArray[Any]) -> Any:
    """A tensor as Python values: a scalar where the contract says [1], else a tuple."""
    flat = array.reshape(-1)
    values = tuple(_text(name, value) for value in flat) if flat.dtype == np.object_ else tuple(flat.tolist())
    return values[0] if INPUT_BY_NAME[name].dims == (1,) else values


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
        return {int(token): float(bias) for token, bias in biases.items()}
    except (TypeError, ValueError):
        raise InvalidRequest("must map token ids to numbers", field="logit_bias") from None


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
