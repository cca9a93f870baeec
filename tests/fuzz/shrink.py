"""A case that hurts made smaller, a part at a time, as long as it still does; each try may cost a new deployment."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from tests.fuzz.case import Case

_TRIES = 40


def shrunk(case: Case, hurts: Callable[[Case], bool]) -> Case:
    """The smallest case found that still hurts."""
    tries = 0
    while True:
        for smaller in _smaller(case):
            tries += 1
            if tries > _TRIES:
                return case
            if hurts(smaller):
                case = smaller
                break
        else:
            return case


def _smaller(case: Case) -> Iterator[Case]:
    """The same case without one of its parts, the largest parts first."""
    if case.metadata:
        yield replace(case, metadata=())
    if len(case.parts) > 1:
        yield from (replace(case, parts=(part,)) for part in case.parts)
    for at, part in enumerate(case.parts):
        for less in _less_of_a_message(part) if case.method else _less_of_bytes(part):
            yield replace(case, parts=(*case.parts[:at], less, *case.parts[at + 1 :]))


def _less_of_a_message(part: bytes) -> Iterator[bytes]:
    """A request without one input, output or parameter."""
    try:
        message = service_pb2.ModelInferRequest.FromString(part)
    except DecodeError:
        yield from _less_of_bytes(part)
        return
    for at in range(len(message.inputs)):
        less = service_pb2.ModelInferRequest.FromString(part)
        del less.inputs[at]
        if at < len(less.raw_input_contents):
            del less.raw_input_contents[at]
        yield less.SerializeToString()
    for at in range(len(message.outputs)):
        less = service_pb2.ModelInferRequest.FromString(part)
        del less.outputs[at]
        yield less.SerializeToString()
    for field in ("parameters", "id", "model_version"):
        less = service_pb2.ModelInferRequest.FromString(part)
        less.ClearField(field)
        if less != message:
            yield less.SerializeToString()


def _less_of_bytes(part: bytes) -> Iterator[bytes]:
    """Halves, then quarters and eighths left out."""
    for pieces in (2, 4, 8):
        size = len(part) // pieces
        if size:
            yield from (part[: at * size] + part[(at + 1) * size :] for at in range(pieces))
