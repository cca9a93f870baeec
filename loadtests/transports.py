"""One streamed request over each transport, timed at the client: nothing but sockets and clocks."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from clients.wire import to_message
from contract.errors import from_wire
from contract.sections import Ports
from contract.tensors import ENSEMBLE_ALIAS
from loadtests.sse import StreamedResponse, request

OUTPUTS = ("text_output", "output_ids", "finish_reason")


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
        message = to_message(ENSEMBLE_ALIAS, inputs, outputs=OUTPUTS)
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
    timeline = Timeline(time.perf_counter())
    async for now, event in _events(ports.host, ports.http, f"/v2/models/{ENSEMBLE_ALIAS}/generate_stream", inputs):
        if "error" in event:
            timeline.error = event["error"]
            break
        ids = event["output_ids"]
        timeline.deltas.append((now, len(ids) if isinstance(ids, list) else 1))
        timeline.text += event["text_output"]
        timeline.finish_reason = event.get("finish_reason", "")
    return timeline


async def openai_stream(host: str, port: int, body: dict[str, Any]) -> Timeline:
    """Run one request over an OpenAI server's ``/v1/completions``.

    OpenAI's chunks do not say how many tokens they carry: the first counts as one, the rest share what ``usage`` tells.
    """
    timeline = Timeline(time.perf_counter())
    arrivals: list[float] = []
    tokens = 0
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    async for now, event in _events(host, port, "/v1/completions", asked):
        if "error" in event:
            timeline.error = event["error"]["message"]
            break
        for choice in event["choices"]:
            timeline.text += choice["text"]
            timeline.finish_reason = choice["finish_reason"] or ""
            if choice["text"]:
                arrivals.append(now)
        if event.get("usage"):
            tokens = event["usage"]["completion_tokens"]
    share, more = divmod(tokens - 1, max(1, len(arrivals) - 1))
    for number, now in enumerate(arrivals):
        timeline.deltas.append((now, share + (number <= more) if number else 1))
    return timeline


async def _events(host: str, port: int, path: str, body: dict[str, Any]) -> AsyncIterator[tuple[float, Any]]:
    """Server-sent events of one POST, each with its arrival; a refusal's body is one event."""
    reader, writer = await asyncio.open_connection(host, port)
    response = StreamedResponse()
    try:
        writer.write(request(host, path, json.dumps(body).encode()))
        while not response.ended and (data := await reader.read(65536)):
            now = time.perf_counter()
            for line in response.feed(data):
                if line == b"data: [DONE]":
                    return
                if line.startswith((b"data: ", b'{"error"')):
                    yield now, json.loads(line.removeprefix(b"data: "))
    finally:
        writer.close()


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
