"""Inference requests over all that Triton's protocol can say: dtypes, shapes, sizes, parameters, outputs."""

import struct
from typing import Any

from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from contract.tensors import ENGINE_DELTA, ENGINE_REQUEST, INPUTS, OUTPUTS, Tensor, stage_names
from tests.fuzz.gateway import MODEL
from tests.fuzz.values import texts

MODELS = [MODEL, MODEL, "ensemble", *stage_names(MODEL), "tensorrt_llm", "tensorrt_llm_bls", "nope", ""]
DTYPES = {
    **{"BOOL": 1, "UINT8": 1, "UINT16": 2, "UINT32": 4, "UINT64": 8, "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8},
    **{"FP16": 2, "BF16": 2, "FP32": 4, "FP64": 8, "BYTES": 0, "": 1, "COMPLEX": 8},
}
_CODES = {"INT32": "i", "UINT64": "Q", "FP32": "f", "BOOL": "?", "UINT8": "B"}
_SIDES = [0, 1, 1, 2, 3, -1, -2, 1000, 2**31, 2**32, 2**62, 2**63 - 1, -(2**63)]
_TEXTS = [
    b"tide",
    b"",
    b"\xff\xfe",
    b"[]",
    b'[{"role": "user", "content": "x"}]',
    b"{}",
    b"regex",
    b"a+",
    b"\0" * 9,
    b"a" * 9000,
]
PARAMETERS = [
    *("sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "binary_data_size", "binary_data"),
    *("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset", "triton_enable_empty_final_response"),
    *("classification", "temperature", "max_tokens", "headers", "id", "triton_"),
]
_NUMBERS = [0, 1, 2, -1, 3, 100, 2**31, 2**63 - 1, -(2**63)]
# What only our own stages say to each other, among what clients send.
_INPUTS = [*INPUTS, ENGINE_REQUEST, ENGINE_DELTA]
_OUTPUTS = [*OUTPUTS, ENGINE_REQUEST, ENGINE_DELTA]

Input = tuple[str, str, list[int], bytes]


def _packed(dtype: str, values: list[Any]) -> bytes:
    if dtype == "BYTES":
        return b"".join(struct.pack("<I", len(each)) + each for each in values)
    return struct.pack(f"<{len(values)}{_CODES[dtype]}", *values)


@st.composite
def sound(draw: st.DrawFn, tensor: Tensor) -> Input:
    """An input as the contract has it."""
    number = st.sampled_from([0, 1, 2, 5, 200])
    value = {"BYTES": st.sampled_from(_TEXTS), "FP32": st.floats(width=32), "BOOL": st.booleans()}.get(
        tensor.dtype, number
    )
    count = draw(st.integers(1, 3)) if tensor.dims == (-1,) else 1
    return tensor.name, tensor.dtype, [1, count], _packed(tensor.dtype, [draw(value) for _ in range(count)])


@st.composite
def inputs(draw: st.DrawFn) -> list[Input]:
    """A prompt and a few more, each now and then wrong in one of its parts."""
    chosen = draw(st.lists(st.sampled_from(_INPUTS), max_size=5))
    prompt = draw(st.sampled_from([["text_input"]] * 6 + [["messages"], ["input_ids"], [], ["request"], ["delta"]]))
    named = {tensor.name: tensor for tensor in _INPUTS}
    made = [draw(sound(each)) for each in (*(named[name] for name in prompt), *chosen)]
    made.append(
        ("max_tokens", "INT32", [1, 1], struct.pack("<i", draw(st.sampled_from([1, 2, 4, 4, -1, 600, 2**31 - 1]))))
    )
    for at in range(len(made)):
        if draw(st.integers(0, 5)) == 0:
            made[at] = draw(broken(made[at]))
    return made


@st.composite
def broken(draw: st.DrawFn, good: Input) -> Input:
    """One part of an input is another."""
    name, dtype, shape, data = good
    match draw(st.integers(0, 4)):
        case 0:
            return draw(texts), dtype, shape, data
        case 1:
            return name, draw(st.sampled_from(sorted(DTYPES))), shape, data
        case 2:
            return name, dtype, draw(st.lists(st.sampled_from(_SIDES), max_size=6)), data
        case 3:
            return name, dtype, shape, draw(st.sampled_from([b"", data[:-1], data + b"\0", data * 3, b"\xff" * 8]))
    return name, dtype, [1, 2**20], bytes(2**20 * (DTYPES[dtype] or 4))


@st.composite
def parameters(draw: st.DrawFn) -> dict[str, Any]:
    """Parameters of a request, an input or an output: mostly none."""
    if draw(st.integers(0, 3)):
        return {}
    value = st.sampled_from(_NUMBERS) | st.booleans() | texts
    return draw(st.dictionaries(st.sampled_from(PARAMETERS) | texts, value, min_size=1, max_size=3))


@st.composite
def outputs(draw: st.DrawFn) -> list[tuple[str, dict[str, Any]]]:
    """The outputs asked for, with their parameters."""
    names = st.sampled_from([tensor.name for tensor in _OUTPUTS]) | st.sampled_from(["text_output", "nope", ""])
    asked = draw(st.lists(names, max_size=4))
    made = [(name, draw(parameters())) for name in asked]
    if draw(st.integers(0, 7)) == 0:
        made.append((draw(names), {"classification": draw(st.sampled_from(_NUMBERS))}))
    return made


@st.composite
def messages(draw: st.DrawFn) -> service_pb2.ModelInferRequest:
    """The gRPC form."""
    message = service_pb2.ModelInferRequest(model_name=draw(st.sampled_from(MODELS)), id=draw(st.just("") | texts))
    message.model_version = draw(st.sampled_from(["", "", "", "1", "2", "-1", "x", "9" * 40]))
    _set(message.parameters, draw(parameters()))
    typed = draw(st.integers(0, 9)) == 0
    for name, dtype, shape, data in draw(inputs()):
        tensor = message.inputs.add(name=name, datatype=dtype, shape=shape)
        _set(tensor.parameters, draw(parameters()))
        if typed:
            tensor.contents.int_contents.extend(data[:50])
            tensor.contents.bytes_contents.append(data[:1000])
        if not typed or draw(st.booleans()):
            message.raw_input_contents.append(data)
    for name, asked in draw(outputs()):
        _set(message.outputs.add(name=name).parameters, asked)
    if draw(st.integers(0, 9)) == 0:
        message.raw_input_contents.append(draw(st.binary(max_size=9)))
    return message


def _set(kept: Any, given: dict[str, Any]) -> None:
    for name, value in given.items():
        if isinstance(value, bool):
            kept[name].bool_param = value
        elif isinstance(value, int):
            kept[name].int64_param = value
        else:
            kept[name].string_param = value
