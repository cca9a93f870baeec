"""Plain values ↔ the messages of Triton's gRPC stream (KServe v2 tensors, raw little-endian bytes)."""

import json
import struct
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from clients.request import Delta, Inputs, Timings
from contract.errors import Cancelled, DeadlineExceeded, InternalError, InvalidRequest, RequestError, Unavailable
from contract.tensors import INPUT_BY_NAME, MOMENTS

_CODES = {"INT32": "i", "UINT64": "Q", "FP32": "f", "BOOL": "?"}
OUTPUTS = ("text_output", "output_ids", "finish_reason", "num_input_tokens", "num_output_tokens")


class Unreachable(Unavailable):
    """No server answers, or not any more. The text is the transport's, with the server's address."""


def to_message(
    model: str, inputs: Inputs, request_id: str = "", outputs: Iterable[str] = OUTPUTS
) -> service_pb2.ModelInferRequest:
    """A request; every tensor is [1, n].

    Args:
        outputs: the tensors wanted back, beside those that the inputs ask for; each costs time in every response.

    Raises:
        InvalidRequest: a value that its tensor's dtype cannot hold.
    """
    message = service_pb2.ModelInferRequest(model_name=model, id=request_id)
    for name, value in inputs.items():
        values = list(value) if isinstance(value, list | tuple) else [value]
        dtype = INPUT_BY_NAME[name].dtype
        message.inputs.add(name=name, datatype=dtype, shape=[1, len(values)])
        message.raw_input_contents.append(_packed(name, dtype, values))
    asked_for = {
        ("output_log_probs", "output_tokens"): inputs.get("return_log_probs"),
        ("top_log_probs",): inputs.get("logprobs"),
        ("prompt_log_probs", "prompt_tokens"): inputs.get("prompt_logprobs") is not None,
        ("prompt_top_log_probs",): inputs.get("prompt_logprobs"),
        MOMENTS: inputs.get("return_perf_metrics"),
    }
    for name in (*outputs, *(name for names, wanted in asked_for.items() if wanted for name in names)):
        message.outputs.add(name=name)
    return message


def to_delta(response: service_pb2.ModelInferResponse) -> Delta:
    """A response's tensors."""
    read = zip(response.outputs, response.raw_output_contents, strict=True)
    fields = {_FIELDS[tensor.name]: _READ[tensor.name](raw) for tensor, raw in read if raw and tensor.name in _READ}
    if MOMENTS[0] in fields:
        fields["timings"] = Timings(**{name: fields.pop(name) for name in MOMENTS if name in fields})
    return Delta(**fields)


_STATUS: dict[int, type[RequestError]] = {1: Cancelled, 4: DeadlineExceeded, 14: Unreachable}


def from_status(code: int, details: str) -> RequestError:
    """A call that failed, by gRPC's number for how, as one of our errors."""
    return _STATUS.get(code, InternalError)(details or "the connection broke")


def from_rpc(error: grpc.RpcError) -> RequestError:
    """A broken stream as one of our errors."""
    return from_status(error.code().value[0], error.details())


def _packed(name: str, dtype: str, values: list[Any]) -> bytes:
    try:
        if dtype == "BYTES":
            encoded = [value.encode() if isinstance(value, str) else value for value in values]
            return b"".join(struct.pack("<I", len(text)) + text for text in encoded)
        return struct.pack(f"<{len(values)}{_CODES[dtype]}", *values)
    except (struct.error, TypeError, AttributeError):
        raise InvalidRequest(f"must be {dtype}, got {values!r:.80}", field=name) from None


def _text(raw: bytes) -> str:
    return raw[4:].decode()  # one BYTES element: a uint32 length, then the text


def _ranked(raw: bytes) -> tuple[tuple[tuple[bytes, float], ...], ...]:
    return tuple(tuple((bytes(token), log_prob) for _, log_prob, token in position) for position in _json(raw))


def _json(raw: bytes) -> Any:
    return json.loads(raw[4:]) if raw else ()


def _numbers(code: str, raw: bytes) -> tuple[Any, ...]:
    return struct.unpack(f"<{len(raw) // 4}{code}", raw)


def _integer(raw: bytes) -> int:
    return int.from_bytes(raw[:4], "little", signed=True)


def _long(raw: bytes) -> int:
    return int.from_bytes(raw[:8], "little", signed=True)


def _bytes(raw: bytes) -> tuple[bytes, ...]:
    return tuple(bytes(token) for token in _json(raw))


# What reads each tensor, and the field of Delta that it is; those of most responses are few.
_READ: dict[str, Callable[[bytes], Any]] = {
    "text_output": _text,
    "output_ids": partial(_numbers, "i"),
    "finish_reason": _text,
    "matched_stop": _text,
    "num_input_tokens": _integer,
    "num_output_tokens": _integer,
    "num_cached_tokens": _integer,
    "output_log_probs": partial(_numbers, "f"),
    "output_tokens": _bytes,
    "top_log_probs": _ranked,
    "prompt_log_probs": partial(_numbers, "f"),
    "prompt_tokens": _bytes,
    "prompt_top_log_probs": _ranked,
    **dict.fromkeys(MOMENTS, _long),
}
_FIELDS = {name: name for name in _READ} | {
    "text_output": "text",
    "output_log_probs": "log_probs",
    "output_tokens": "tokens",
}
