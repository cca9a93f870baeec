"""One streamed request over each transport, timed at the client: nothing but sockets and clocks."""

import asyncio
import json
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from contract.errors import from_wire
from contract.spec import Ports
from contract.tensors import ENSEMBLE_ALIAS, INPUT_BY_NAME

_PACK = {"INT32": "i", "FP32": "f", "BOOL": "?", "UINT64": "Q"}


@dataclass
class Timeline:
    """What the client saw of one request; times are time.perf_counter()."""

    sent: float
    deltas: list[tuple[float, int]] = field(default_factory=list)  # (arrival, tokens in it)
    text: str = ""
    finish_reason: str = ""
    error: str = ""


class Stub:
    """An open gRPC channel to a Triton server."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer

    async def stream(self, inputs: dict[str, Any], cancel_after: int | None = None) -> Timeline:
        """Run one request; cancel it after so many deltas, if told."""
        message = _message(inputs)
        timeline = Timeline(time.perf_counter())
        call = self._call(_once(message))
        try:
            async for response in call:
                if response.error_message:
                    timeline.error = str(from_wire(response.error_message))
                    break
                _take(timeline, response.infer_response)
                if cancel_after is not None and len(timeline.deltas) > cancel_after:
                    call.cancel()
                    timeline.finish_reason = "cancelled"
                    break
        except grpc.aio.AioRpcError as error:
            timeline.error = error.details() or error.code().name
        return timeline


@asynccontextmanager
async def grpc_stub(ports: Ports) -> AsyncIterator[Stub]:
    """A channel of its own to the deployment's gRPC port."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"{ports.host}:{ports.grpc}", options=options) as channel:
        yield Stub(channel)


async def http_stream(ports: Ports, inputs: dict[str, Any]) -> Timeline:
    """Run one request over HTTP ``generate_stream``."""
    body = json.dumps(inputs).encode()
    head = (
        f"POST /v2/models/{ENSEMBLE_ALIAS}/generate_stream HTTP/1.1\r\nHost: {ports.host}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    timeline = Timeline(time.perf_counter())
    reader, writer = await asyncio.open_connection(ports.host, ports.http)
    try:
        writer.write(head.encode() + body)
        async for line in reader:
            if line == b"0\r\n":  # the last chunk
                break
            if not line.startswith(b"data: "):
                continue
            now = time.perf_counter()
            event = json.loads(line[6:])
            if "error" in event:
                timeline.error = event["error"]
                break
            ids = event["output_ids"]
            timeline.deltas.append((now, len(ids) if isinstance(ids, list) else 1))
            timeline.text += event["text_output"]
            timeline.finish_reason = event.get("finish_reason", "")
    finally:
        writer.close()
    return timeline


def _message(inputs: dict[str, Any]) -> service_pb2.ModelInferRequest:
    message = service_pb2.ModelInferRequest(model_name=ENSEMBLE_ALIAS)
    for name, value in inputs.items():
        values = value if isinstance(value, list) else [value]
        dtype = INPUT_BY_NAME[name].dtype
        message.inputs.add(name=name, datatype=dtype, shape=[1, len(values)])
        message.raw_input_contents.append(b"".join(_element(dtype, each) for each in values))
    for name in ("text_output", "output_ids", "finish_reason"):
        message.outputs.add(name=name)
    return message


def _element(dtype: str, value: Any) -> bytes:
    if dtype == "BYTES":
        text: bytes = value.encode()
        return struct.pack("<I", len(text)) + text
    packed: bytes = struct.pack("<" + _PACK[dtype], value)
    return packed


async def _once(message: service_pb2.ModelInferRequest) -> AsyncIterator[service_pb2.ModelInferRequest]:
    yield message


def _take(timeline: Timeline, response: service_pb2.ModelInferResponse) -> None:
    now = time.perf_counter()
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        if output.name == "output_ids":
            timeline.deltas.append((now, len(raw) // 4))
        elif output.name == "text_output":
            timeline.text += raw[4:].decode()
        elif output.name == "finish_reason":
            timeline.finish_reason = raw[4:].decode()
