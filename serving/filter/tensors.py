"""What a request for an inference may ask of the wheel's Triton, over gRPC and over HTTP.

Refused is what ends or harms Triton 2.51: classification (a division by zero where the output is text), shared memory
(another's prompt), shapes that promise more than the request holds (overflows, endless allocations), outputs named
twice, JSON that is nested without end or says a thing twice (parsers differ in which they take), compressed bombs.
"""

import json
import math
import zlib
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from contract.errors import InvalidRequest
from serving.filter.relay import MIB, MOST_BYTES

_DEPTH = 100  # what later Tritons allow
_MOST_TENSORS = 1024
_CLOSED = {
    "classification": "Triton 2.51 cannot classify text",
    "shared_memory_region": "shared memory is closed",
    "shared_memory_offset": "shared memory is closed",
    "shared_memory_byte_size": "shared memory is closed",
}
_WINDOWS = {"gzip": 31, "deflate": 15}


def unpack(data: bytes, encoding: str) -> bytes:
    """What was compressed, by gzip or deflate, within bounds.

    Raises:
        InvalidRequest: it is too large, or not what it says.
    """
    if encoding not in _WINDOWS:
        raise InvalidRequest(f"compression {encoding or 'of no kind'} is not known", fix="Use gzip, deflate or none")
    try:
        unpacker = zlib.decompressobj(_WINDOWS[encoding])
        unpacked = unpacker.decompress(data, MOST_BYTES + 1)
    except zlib.error:
        raise InvalidRequest(f"what was sent is not {encoding}") from None
    if len(unpacked) > MOST_BYTES:
        raise too_large("unpacked")
    if not unpacker.eof or unpacker.unused_data:
        raise InvalidRequest(f"what was sent is not {encoding} from its beginning to its end")
    return unpacked


def too_large(how: str) -> InvalidRequest:
    """The refusal of what exceeds the bound."""
    return InvalidRequest(f"the request is larger than {MOST_BYTES // MIB} MiB {how}", fix="Send less")


def check_message(message: bytes) -> service_pb2.ModelInferRequest:
    """Read a ModelInferRequest, or refuse what could harm.

    Raises:
        InvalidRequest: it names the field.
    """
    try:
        request = service_pb2.ModelInferRequest.FromString(message)
    except DecodeError:
        raise InvalidRequest("the message is no ModelInferRequest") from None
    _check_count(request.inputs, request.outputs, request.raw_input_contents)
    for each in request.inputs:
        _check_parameters(f"inputs.{each.name}", each.parameters)
        _check_shape(each.name, each.shape, len(message))
    for each in request.outputs:
        _check_parameters(f"outputs.{each.name}", each.parameters)
    _check_once(each.name for each in request.outputs)
    return request


def check_json(body: bytes, room: int, *, tensors: bool) -> None:
    """Refuse JSON that could harm.

    Args:
        body: of a request, or the JSON part of it.
        room: bytes of the whole body, binary tensors included.
        tensors: whether it is of the ``infer`` endpoint, which names inputs and outputs.

    Raises:
        InvalidRequest: it names the field.
    """
    try:
        document = json.loads(body.decode(), object_pairs_hook=_once)
    except UnicodeDecodeError:
        raise InvalidRequest("the body is not UTF-8") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise InvalidRequest(f"failed to parse the request JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidRequest("failed to parse the request JSON: it is no object")
    _check_depth(document)
    if tensors:
        _check_infer(document, room)


def _check_infer(document: dict[str, Any], room: int) -> None:
    inputs, outputs = ([_object(each, name) for each in _list(document, name)] for name in ("inputs", "outputs"))
    _object(document.get("parameters", {}), "parameters")
    _check_count(inputs, outputs)
    for kind, each in (*(("inputs", one) for one in inputs), *(("outputs", one) for one in outputs)):
        _check_parameters(
            f"{kind}.{each.get('name')}", _object(each.get("parameters", {}), f"{kind}.{each.get('name')}.parameters")
        )
    for each in inputs:
        shape = _list(each, "shape")
        if not all(type(size) is int for size in shape):
            raise InvalidRequest(f"shape {shape!r:.100} is not of whole numbers", field=_name(each.get("name")))
        _check_shape(each.get("name"), shape, room)
    _check_once(str(each.get("name")) for each in outputs)


def _check_count(*lists: Collection[Any]) -> None:
    if max(map(len, lists)) > _MOST_TENSORS:
        raise InvalidRequest(f"the request has more than {_MOST_TENSORS} inputs or outputs")


def _check_parameters(where: str, parameters: Iterable[str]) -> None:
    for name in parameters:
        if name in _CLOSED:
            raise InvalidRequest(_CLOSED[name], field=f"{_name(where)}.parameters.{name}", fix="Leave it out")


def _check_shape(name: Any, shape: Collection[int], room: int) -> None:
    """Each element takes a byte at least, so a shape has no more of them than the request has bytes."""
    if any(size < 0 for size in shape) or len(shape) > _DEPTH or math.prod(shape) > room:
        said = f"shape [{', '.join(map(str, list(shape)[:8]))}] is none that the request's {room} bytes could fill"
        raise InvalidRequest(said, field=_name(name), fix="Give the shape of the data that is sent")


def _check_once(names: Iterable[str]) -> None:
    seen = set()
    for name in names:
        if name in seen:
            raise InvalidRequest("the output is asked for twice", field=_name(name), fix="Ask once")
        seen.add(name)


def _check_depth(document: Any) -> None:
    """Level by level: no recursion of ours either."""
    level = [document]
    for _ in range(_DEPTH):
        level = [
            child
            for each in level
            for child in (each.values() if isinstance(each, dict) else each)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"the JSON is nested more than {_DEPTH} deep", fix="Flatten it")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        (doubled, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise InvalidRequest("given twice", field=_name(doubled), fix="Give it once")
    return made


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest("must be an object", field=_name(name))
    return value


def _list(of: dict[str, Any], name: str) -> list[Any]:
    value = of.get(name, [])
    if not isinstance(value, list):
        raise InvalidRequest("must be a list", field=name)
    return value


def _name(text: Any) -> str:
    """A name of the client's, fit for an error."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text)[:100])
