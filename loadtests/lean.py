"""A client that costs little: what arrives is kept with its time and read when the load is over.

``python -m loadtests.lean`` takes one JSON :class:`Order` on stdin and answers with one JSON of :class:`Timeline`
records. A load of several processes is several of these (loadtests/fleet.py).
"""

import asyncio
import itertools
import json
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from clients.wire import to_message
from contract.errors import from_wire
from loadtests.sse import request as http_request

OUTPUTS = ("text_output", "output_ids", "finish_reason")
_METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"
_CONNECTS_S = 10.0
_RETRY_AFTER = re.compile(rb"\r\nretry-after: (\d+)\r\n", re.IGNORECASE)
_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]


@dataclass
class Order:
    """What to send, and how."""

    way: str  # one of _READ
    host: str
    port: int
    model: str
    requests: list[dict[str, Any]]
    streams: int = 0  # requests in flight; 0: all of them
    seconds: float = 0.0  # go on from the first again for so long; 0: each request once
    start_at: float = 0.0  # time.time(); several processes begin together
    key: str = ""  # the API key, over HTTP; who is told to come back later does so then


@dataclass
class Timeline:
    """One request as the client saw it; times are time.time()."""

    sent: float
    deltas: list[tuple[float, int]] = field(default_factory=list)  # (arrival, tokens in it)
    text: str = ""
    finish_reason: str = ""
    error: str = ""


Raw = list[tuple[float, bytes]]


async def run(order: Order) -> list[Timeline]:
    """The whole load."""
    kept: list[tuple[float, Raw, str]] = []
    turn = iter(_turns(order))
    async with _channel(order) as channel:
        if channel:
            await asyncio.wait_for(channel.channel_ready(), _CONNECTS_S)
        await asyncio.sleep(max(0.0, order.start_at - time.time()))

        async def user() -> None:
            for request in turn:
                stream = _grpc(channel, order, request) if channel else _http(order, request)
                kept.append(await _drain(stream))
                await asyncio.sleep(sent_away_s(kept[-1][1]) if order.key else 0)

        await asyncio.gather(*(user() for _ in range(order.streams or len(order.requests))))
    return [_READ[order.way](*each) for each in kept]


async def one(order: Order, request: dict[str, Any]) -> Timeline:
    """One request over HTTP."""
    return _READ[order.way](*await _drain(_http(order, request)))


def _turns(order: Order) -> Iterator[dict[str, Any]]:
    if not order.seconds:
        yield from order.requests
        return
    for request in itertools.cycle(order.requests):
        if time.time() > order.start_at + order.seconds:
            return
        yield request


async def _drain(stream: AsyncIterator[bytes]) -> tuple[float, Raw, str]:
    """When it was sent, everything a stream says, and its error."""
    sent, raw, error = time.time(), [], ""
    try:
        async for message in stream:
            raw.append((time.time(), message))
    except grpc.aio.AioRpcError as failure:
        error = f"{failure.code().name}: {failure.details()}"
    except OSError as failure:
        error = str(failure)
    finally:
        await stream.aclose()  # type: ignore[attr-defined]
    return sent, raw, error


def sent_away_s(raw: Raw) -> float:
    """What a refusal's Retry-After says."""
    told = _RETRY_AFTER.search(raw[0][1]) if raw else None
    return float(told[1]) if told else 0.0


def _channel(order: Order) -> AbstractAsyncContextManager[Any]:
    if order.way != "grpc":
        return nullcontext()
    return grpc.aio.insecure_channel(f"{order.host}:{order.port}", options=_OPTIONS)  # type: ignore[no-any-return]


async def _grpc(channel: Any, order: Order, request: dict[str, Any]) -> AsyncIterator[bytes]:
    call = channel.stream_stream(_METHOD)([_message(order.model, request)])  # bytes in, bytes out
    try:
        async for message in call:
            yield message
    finally:
        call.cancel()


def _message(model: str, request: dict[str, Any]) -> bytes:
    packed: bytes = to_message(model, _inputs(request), outputs=OUTPUTS).SerializeToString()
    return packed


def _inputs(request: dict[str, Any]) -> dict[str, Any]:
    return {
        "input_ids": request["prompt"],
        "max_tokens": request["max_tokens"],
        "stream": True,
        "ignore_eos": request.get("ignore_eos", True),
    }


def _read_grpc(sent: float, raw: Raw, error: str) -> Timeline:
    timeline = Timeline(sent, error=error)
    text = b""
    for now, message in raw:
        response = service_pb2.ModelStreamInferResponse.FromString(message)
        if response.error_message:
            timeline.error = str(from_wire(response.error_message))
            break
        infer = response.infer_response
        for output, content in zip(infer.outputs, infer.raw_output_contents, strict=True):
            if output.name == "output_ids":
                timeline.deltas.append((now, len(content) // 4))
            elif output.name == "text_output":
                text += content[4:]
            elif output.name == "finish_reason":
                timeline.finish_reason = content[4:].decode()
    timeline.text = text.decode()
    return timeline


def _body(order: Order, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The path of a POST and its JSON."""
    inputs = _inputs(request)
    if order.way == "http":
        return f"/v2/models/{order.model}/generate_stream", inputs
    prompt, body = inputs.pop("input_ids"), {**inputs, "temperature": 0}
    if order.way == "generate":
        return "/generate", body | {"input_ids": prompt}
    asked = {"model": order.model, "prompt": prompt, "stream_options": {"include_usage": True}}
    return "/v1/completions", body | asked


async def _http(order: Order, request: dict[str, Any]) -> AsyncIterator[bytes]:
    path, body = _body(order, request)
    headers = {"Authorization": f"Bearer {order.key}"} if order.key else None
    reader, writer = await asyncio.open_connection(order.host, order.port, limit=1 << 20)
    try:
        writer.write(http_request(order.host, path, json.dumps(body).encode(), headers))
        while chunk := await reader.read(1 << 20):
            yield chunk
    finally:
        writer.close()


def _read_openai(sent: float, raw: Raw, error: str) -> Timeline:
    """OpenAI's chunks do not say how many tokens they carry: those with text share what ``usage`` tells.

    An answer of no text, half a character or a special token, came with its end.
    """
    timeline = Timeline(sent, error=error)
    arrivals: list[float] = []
    tokens = 0
    for now, event in _events(raw, timeline):
        for choice in event["choices"]:
            timeline.text += choice["text"]
            timeline.finish_reason = choice["finish_reason"] or timeline.finish_reason
            if choice["text"]:
                arrivals.append(now)
        tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    if tokens and not arrivals:
        arrivals = [raw[-1][0]]
    tokens = tokens or len(arrivals)
    share, more = divmod(tokens - 1, max(1, len(arrivals) - 1))
    timeline.deltas = [(now, share + (number <= more) if number else 1) for number, now in enumerate(arrivals)]
    return timeline


def _read_generate(sent: float, raw: Raw, error: str) -> Timeline:
    """LMDeploy's events have the ids that they bring."""
    timeline = Timeline(sent, error=error)
    for now, event in _events(raw, timeline):
        timeline.text += event["text"]
        if event["output_ids"]:
            timeline.deltas.append((now, len(event["output_ids"])))
        if reason := event["meta_info"]["finish_reason"]:
            timeline.finish_reason = reason["type"]
    return timeline


def _read_http(sent: float, raw: Raw, error: str) -> Timeline:
    """Triton unpacks arrays of one element."""
    timeline = Timeline(sent, error=error)
    for now, event in _events(raw, timeline):
        ids = event["output_ids"]
        timeline.deltas.append((now, len(ids) if isinstance(ids, list) else 1))
        timeline.text += event["text_output"]
        timeline.finish_reason = event.get("finish_reason", "")
    return timeline


_READ = {
    "grpc": _read_grpc,  # the ensemble
    "http": _read_http,  # the same, over generate_stream
    "openai": _read_openai,  # any server's /v1/completions
    "generate": _read_generate,  # LMDeploy's own, which takes ids
}


def _events(raw: Raw, timeline: Timeline) -> Iterator[tuple[float, dict[str, Any]]]:
    """Server-sent events with their arrivals; an error, in the stream or instead of it, is the timeline's."""
    rest = b""
    for now, chunk in raw:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if not line.startswith((b"data: {", b'{"error"')):
                continue
            event = json.loads(line.removeprefix(b"data: "))
            if "error" in event:
                timeline.error = _said(event)
            else:
                yield now, event
    if rest.startswith(b"{"):
        timeline.error = _said(json.loads(rest))


def _said(event: dict[str, Any]) -> str:
    error = event.get("error") or event
    return str(error.get("message", error) if isinstance(error, dict) else error)


def main() -> None:
    """One order, one answer; ``cpu_s`` is what this process used meanwhile."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is for who ordered this: nothing is said here
    order = Order(**json.loads(sys.stdin.readline()))
    before = time.process_time()
    kept = asyncio.run(run(order))
    json.dump({"timelines": [asdict(each) for each in kept], "cpu_s": time.process_time() - before}, sys.stdout)


if __name__ == "__main__":
    main()
