"""The ways a client leaves requests that run."""

import json
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Protocol

import grpc
from tritonclient.grpc import service_pb2_grpc

from clients.request import inputs_of
from clients.wire import to_message
from serving.supervisor import Running

LONG = 3000  # tokens: half a minute of the synthetic engine, far beyond every limit here
HANG_S = 30
PROMPT = "tide and boats "

Leave = Callable[[], None]  # returns once no client listens any more


class Crowd(Protocol):
    """Begins so many requests of a model, streamed or not."""

    __name__: str

    def __call__(self, server: Running, count: int, stream: bool, exits: ExitStack, *, model: str) -> Leave:
        """What makes them leave."""


def _calls(
    server: Running, count: int, stream: bool, exits: ExitStack, model: str, **options: Any
) -> tuple[grpc.Channel, list[Any]]:
    """gRPC calls in flight over one channel."""
    address = f"127.0.0.1:{server.spec.ports.grpc}"
    channel = grpc.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),))
    exits.callback(channel.close)
    infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer
    timeout_s = options.pop("timeout_s", None)
    message = to_message(model, inputs_of(PROMPT, {"max_tokens": LONG, **options}, stream=stream))
    return channel, [infer(iter([message]), timeout=timeout_s) for _ in range(count)]


def _to_the_end(calls: list[Any]) -> None:
    for call in calls:
        try:
            while not next(call).error_message:
                pass
        except (grpc.RpcError, StopIteration):
            pass


def grpc_cancel(server: Running, count: int, stream: bool, exits: ExitStack, *, model: str) -> Leave:
    """Each call is cancelled."""
    _, calls = _calls(server, count, stream, exits, model)

    def leave() -> None:
        for call in calls:
            call.cancel()

    return leave


def grpc_gone(server: Running, count: int, stream: bool, exits: ExitStack, *, model: str) -> Leave:
    """The connection is closed under them."""
    channel, calls = _calls(server, count, stream, exits, model)

    def leave() -> None:
        channel.close()
        calls.clear()  # not earlier: a call that nobody holds is cancelled

    return leave


def grpc_timeout(server: Running, count: int, stream: bool, exits: ExitStack, *, model: str) -> Leave:
    """gRPC's own deadline passes."""
    _, calls = _calls(server, count, stream, exits, model, timeout_s=2)
    return lambda: _to_the_end(calls)


def timeout_ms(server: Running, count: int, stream: bool, exits: ExitStack, *, model: str) -> Leave:
    """The contract's deadline passes."""
    _, calls = _calls(server, count, stream, exits, model, timeout_ms=2000)
    return lambda: _to_the_end(calls)


def stop_string(server: Running, count: int, stream: bool, exits: ExitStack, *, model: str) -> Leave:
    """The stop string comes after some 1.5 s of text: it spans the prompt's first and second echo."""
    _, calls = _calls(
        server, count, stream, exits, model, stop_words=["boats tide and boats tide and boats tide and boats "]
    )
    return lambda: _to_the_end(calls)


def http_gone(server: Running, count: int, stream: bool, exits: ExitStack, *, model: str, tokens: int = LONG) -> Leave:
    """The sockets are closed."""
    sockets = [_posted(server, stream, tokens, model) for _ in range(count)]

    def leave() -> None:
        for each in sockets:
            each.close()

    exits.callback(leave)
    return leave


def _posted(server: Running, stream: bool, tokens: int, model: str) -> socket.socket:
    body = json.dumps({"text_input": PROMPT, "max_tokens": tokens, "stream": stream})
    endpoint = "generate_stream" if stream else "generate"
    head = f"POST /v2/models/{model}/{endpoint} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", server.spec.ports.http), timeout=HANG_S)
    connection.sendall((head + body).encode())
    return connection
