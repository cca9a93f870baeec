"""A server of known timings: three transports, every moment of every answer planned, and the moment it came to be kept.

It is a process of its own (``python -m tests.loadtests.known``), prints its two ports, and writes a JSON line for each
answer: when the request was whole and when each event with content was handed to the socket. What it answers is in the
model's name: ``plain``, ``reasoning``, ``tool``, or a way to fail.
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

ROLE_LEAD = 0.5  # a chunk that only names the role comes after this share of the TTFT


@dataclass(frozen=True)
class Timings:
    """Of every answer; seconds."""

    ttft: float = 0.1
    gap: float = 0.02
    chunks: int = 10
    tokens: int = 2  # a chunk, but the first, which has one


@dataclass
class Told:
    """What the server knows of one answer."""

    prompt: str
    received: float
    sent: list[float] = field(default_factory=list)
    ended: float = 0.0
    tokens: int = 0


class Known(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers."""

    def __init__(self, timings: Timings, log: Path) -> None:
        self._timings = timings
        self._log = log.open("a")

    async def pieces(self, prompt: str, told: Told) -> AsyncIterator[tuple[str, int]]:
        """(text, tokens) of each chunk, when it is due."""
        for number in range(self._timings.chunks):
            due = told.received + self._timings.ttft + number * self._timings.gap
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tokens = self._timings.tokens if number else 1
            told.tokens += tokens
            yield f"{prompt[:4]}{number} ", tokens

    def keep(self, told: Told) -> None:
        """Write an answer's line."""
        self._log.write(json.dumps(asdict(told)) + "\n")
        self._log.flush()

    async def over_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ")[1]
            length = next((line for line in head.lower().split("\r\n") if line.startswith("content-length:")), ": 0")
            body = json.loads(await reader.readexactly(int(length.split(":")[1])) or b"{}")
            received = time.perf_counter()
            if path == "/v1/models":
                _whole(writer, 200, {"data": [{"id": "plain"}]})
            elif path.endswith("/generate_stream"):
                await self._triton(writer, path.split("/")[3], Told(body["text_input"], received))
            else:
                prompt = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
                await self._openai(writer, body["model"], Told(prompt, received), chat="messages" in body)
            await writer.drain()
        writer.close()

    async def _openai(self, writer: asyncio.StreamWriter, model: str, told: Told, *, chat: bool) -> None:
        if _refused(writer, model, {"error": {"message": model, "type": "x", "param": None, "code": None}}):
            return
        _begin(writer)
        if chat:
            role_at = told.received + ROLE_LEAD * self._timings.ttft
            await asyncio.sleep(max(0.0, role_at - time.perf_counter()))
            _event(writer, _chunk({"role": "assistant", "content": ""}, chat=True))
        if model == "empty":
            told.tokens = 0
        elif model == "silent":
            await asyncio.sleep(30)
        else:
            async for text, _ in self.pieces(told.prompt, told):
                if model == "broken" and len(told.sent) == 3:
                    _event(writer, {"error": {"message": "the engine died", "type": "server_error"}})
                    _end(writer)
                    return
                if model == "cut" and len(told.sent) == 3:
                    writer.transport.abort()
                    return
                if model == "undone" and len(told.sent) == 3:
                    _end(writer)
                    return
                event = _packed(_chunk(_delta(model, text, len(told.sent)), chat=chat))
                told.sent.append(time.perf_counter())
                writer.write(event)
        _event(writer, _chunk({}, chat=chat, finish="length"))
        usage = {"prompt_tokens": 7, "completion_tokens": told.tokens, "total_tokens": 7 + told.tokens}
        _event(writer, {"choices": [], "usage": usage})
        told.ended = time.perf_counter()
        writer.write(_framed(b"data: [DONE]\n\n"))
        _end(writer)
        self.keep(told)

    async def _triton(self, writer: asyncio.StreamWriter, model: str, told: Told) -> None:
        if _refused(writer, model, {"error": f"[overloaded] {model}"}):
            return
        _begin(writer)
        async for text, tokens in self.pieces(told.prompt, told):
            if model == "broken" and len(told.sent) == 3:
                _event(writer, {"error": "[engine_failed] the engine died"})
                _end(writer)
                return
            ids = list(range(tokens))
            event = _packed({"text_output": text, "output_ids": ids if len(ids) > 1 else 0})
            told.sent.append(time.perf_counter())
            writer.write(event)
        last = {"num_input_tokens": 7, "num_output_tokens": told.tokens, "finish_reason": "length"}
        queue = {"arrival_time_ns": 1_000_000_000, "first_scheduled_time_ns": 1_030_000_000}
        event = _packed({"text_output": "", **last, **queue})
        told.ended = time.perf_counter()
        writer.write(event)
        _end(writer)
        self.keep(told)

    async def ModelStreamInfer(self, requests: Any, _: Any) -> AsyncIterator[service_pb2.ModelStreamInferResponse]:
        """Triton's gRPC."""
        async for request in requests:
            inputs = dict(zip((tensor.name for tensor in request.inputs), request.raw_input_contents, strict=True))
            told = Told(inputs["text_input"][4:].decode(), time.perf_counter())
            if request.model_name == "busy":
                yield service_pb2.ModelStreamInferResponse(error_message="[overloaded] busy")
                return
            async for text, tokens in self.pieces(told.prompt, told):
                if request.model_name == "broken" and len(told.sent) == 3:
                    yield service_pb2.ModelStreamInferResponse(error_message="[engine_failed] the engine died")
                    return
                response = _response(text_output=text, output_ids=[0] * tokens)
                told.sent.append(time.perf_counter())
                yield response
            counts = {"num_input_tokens": [7], "num_output_tokens": [told.tokens]}
            last = _response(text_output="", finish_reason="length", **counts)
            told.ended = time.perf_counter()
            yield last
            self.keep(told)


def _refused(writer: asyncio.StreamWriter, model: str, body: Any) -> bool:
    statuses = {"busy": 429, "wrong": 400, "failing": 500}
    if model in statuses:
        _whole(writer, statuses[model], body)
    return model in statuses


def _delta(model: str, text: str, number: int) -> dict[str, Any]:
    if model == "reasoning" and number < 2:
        return {"reasoning_content": text}
    if model == "tool":
        function = {"name": "tide_table", "arguments": ""} if number == 0 else {"arguments": text}
        return {"tool_calls": [{"index": 0, "function": function}]}
    return {"content": text}


def _chunk(delta: dict[str, Any], *, chat: bool, finish: str | None = None) -> dict[str, Any]:
    said = {"delta": delta} if chat else {"text": delta.get("content", "")}
    return {"id": "known", "choices": [{"index": 0, **said, "finish_reason": finish}], "usage": None}


def _response(**outputs: Any) -> service_pb2.ModelStreamInferResponse:
    response = service_pb2.ModelStreamInferResponse()
    for name, value in outputs.items():
        if isinstance(value, str):
            raw, dtype, count = value.encode(), "BYTES", 1
            raw = len(raw).to_bytes(4, "little") + raw
        else:
            raw, dtype, count = b"".join(each.to_bytes(4, "little") for each in value), "INT32", len(value)
        response.infer_response.outputs.add(name=name, datatype=dtype, shape=[1, count])
        response.infer_response.raw_output_contents.append(raw)
    return response


def _begin(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")


def _event(writer: asyncio.StreamWriter, event: Any) -> None:
    writer.write(_packed(event))


def _packed(event: Any) -> bytes:
    return _framed(b"data: " + json.dumps(event).encode() + b"\n\n")


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _end(writer: asyncio.StreamWriter) -> None:
    writer.write(b"0\r\n\r\n")


def _whole(writer: asyncio.StreamWriter, status: int, body: Any) -> None:
    said = json.dumps(body).encode()
    writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(said), said))


async def serve(timings: Timings, log: Path) -> None:
    """Until killed."""
    known = Known(timings, log)
    door = await asyncio.start_server(known.over_http, "127.0.0.1", 0)
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(known, server)
    grpc_port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(door.sockets[0].getsockname()[1], grpc_port, flush=True)
    await server.wait_for_termination()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    for name, kind in (("ttft", float), ("gap", float), ("chunks", int), ("tokens", int)):
        parser.add_argument(f"--{name}", type=kind, default=getattr(Timings, name))
    options = vars(parser.parse_args())
    log = options.pop("log")
    asyncio.run(serve(Timings(**options), log))


if __name__ == "__main__":
    main()
