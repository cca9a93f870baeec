"""How long the gateway keeps the first token of a lone stream: asked through it and straight to what it asks, in turn.

Each way has a connection that stands, and asks at moments that have nothing to do with the engine's steps. Straight is
the code with which the gateway asks, so that what differs is the gateway.
"""

import asyncio
import json
import random
import statistics
import time
from typing import Any

from clients.channel import Channel
from clients.grpc import INFER
from clients.wire import to_message
from contract.spec import Deployment
from contract.tensors import stage_names
from loadtests.fleet import fresh
from loadtests.sse import StreamedResponse
from loadtests.sse import request as http_request

_PAUSE_S = 0.02  # at most, between two
_TOKENS = 4  # of an answer
_OUTPUTS = ("text_output", "finish_reason", "num_input_tokens", "num_output_tokens")

Request = dict[str, Any]


def alone(spec: Deployment, requests: int, prompt_tokens: int) -> dict[str, float]:
    """Medians over so many requests, in ms: through the gateway, straight, and of what each pair differs by."""
    return asyncio.run(_alone(spec, requests, prompt_tokens))


async def _alone(spec: Deployment, requests: int, prompt_tokens: int) -> dict[str, float]:
    rng = random.Random(requests)
    channel = Channel(f"{spec.ports.host}:{spec.ports.grpc}")
    reader, writer = await asyncio.open_connection(spec.gateway.host, spec.ports.gateway, limit=1 << 20)
    through, straight = [], []
    for number, request in enumerate(fresh(rng, range(32, 127), requests + 1, prompt_tokens, _TOKENS)):
        await asyncio.sleep(rng.random() * _PAUSE_S)
        asked = await _through(reader, writer, spec, request)
        await asyncio.sleep(rng.random() * _PAUSE_S)
        answered = await _straight(channel, spec, request)
        if number:  # the first one connects
            through.append(asked)
            straight.append(answered)
    writer.close()
    channel.close()
    added = statistics.median(through) - statistics.median(straight)
    return {
        "ttft_p50_ms": round(1000 * statistics.median(through), 2),
        "direct_ttft_p50_ms": round(1000 * statistics.median(straight), 2),
        "added_ms": round(1000 * added, 2),
    }


async def _through(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, spec: Deployment, request: Request
) -> float:
    body = {"model": spec.name, **request, "stream": True, "temperature": 0}
    data = http_request(spec.gateway.host, "/v1/completions", json.dumps(body).encode(), {"Connection": "keep-alive"})
    response, first = StreamedResponse(), 0.0
    sent = time.perf_counter()
    writer.write(data)
    while not response.ended:
        lines = response.feed(await reader.read(1 << 20))
        if lines and not first:
            first = time.perf_counter() - sent
    return first


async def _straight(channel: Channel, spec: Deployment, request: Request) -> float:
    inputs = {"input_ids": request["prompt"], "max_tokens": request["max_tokens"], "stream": True}
    message = to_message(stage_names(spec.name)[1], inputs, outputs=_OUTPUTS).SerializeToString()
    sent = time.perf_counter()
    call = await channel.call(INFER, message)
    await call.read()
    first = time.perf_counter() - sent
    while await call.read() is not None:
        pass
    return first
