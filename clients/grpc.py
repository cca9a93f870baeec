"""gRPC streaming clients, sync and asyncio: one call a request. asyncio's speaks gRPC itself (clients/connection.py).

Leaving a stream early cancels its request on the server, whichever way it is left: ``break``, an
exception, ``close()``, a cancelled task.

    with Client() as client:
        for delta in client.stream("Once upon a time", max_tokens=64):
            print(delta.text, end="")
"""

import itertools
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import aclosing
from typing import Any, Self

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from clients.channel import Channel
from clients.request import Answer, Delta, Inputs, Tokens, inputs_of, joined
from clients.wire import OUTPUTS, from_rpc, to_delta, to_message
from contract.errors import InternalError, RequestError, from_wire
from contract.tensors import ENGINE_REQUEST, ENSEMBLE_ALIAS, stage_names
from contract.wire import TOKENIZE, EngineRequest, unpack_request

# Without its own pool, two clients of one process would share a connection and its back-off.
_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),  # a server that was restarted is found at once
)

INFER, _READY = (b"/inference.GRPCInferenceService/" + name for name in (b"ModelStreamInfer", b"ModelReady"))


def stream_infer(channel: Any) -> Any:
    """Triton's ModelStreamInfer on a channel, sync or asyncio: called with one request, it gives its responses.

    Triton would take several requests a call. One message sent with the call's head, as for any other streamed answer,
    is the same on the wire and saves gRPC a task, two operations and their turns of the loop.
    """
    return channel.unary_stream(
        INFER.decode(),
        request_serializer=service_pb2.ModelInferRequest.SerializeToString,
        response_deserializer=service_pb2.ModelStreamInferResponse.FromString,
    )


class Client:
    """A sync client; safe to share between threads.

    Args:
        model: the deployment's name, or NVIDIA's for it.
        direct: ask the engine's stage itself, which takes and gives the same and costs half. It is called by the
            deployment's own name.
    """

    def __init__(self, address: str = "127.0.0.1:8001", model: str = ENSEMBLE_ALIAS, *, direct: bool = False) -> None:
        self._model = stage_names(model)[1] if direct else model
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._infer = stream_infer(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; requests in flight are cancelled."""
        self._channel.close()

    def ready(self, timeout_s: float = 5) -> bool:
        """Whether a server answers and has the model loaded."""
        question = service_pb2.ModelReadyRequest(name=self._model)
        try:
            return bool(self._stub.ModelReady(question, timeout=timeout_s).ready)
        except grpc.RpcError:
            return False

    def generate(self, prompt: str | None = None, *, timeout_s: float | None = None, **options: Any) -> Answer:
        """The whole answer. Arguments and errors as for :meth:`stream`."""
        return joined(self._run(prompt, options, timeout_s, stream=False))

    def stream(
        self, prompt: str | None = None, *, timeout_s: float | None = None, **options: Any
    ) -> Generator[Delta, None, None]:
        """The answer's deltas as they come.

        Args:
            prompt: the text; or None with ``messages=[…]`` or ``input_ids=[…]``.
            timeout_s: give up, here and on the server, after so many seconds.
            options: any input of the ensemble by its name, such as ``max_tokens=64``.

        Raises:
            RequestError: refused, failed, late, or no server: see contract.errors.
        """
        yield from self._run(prompt, options, timeout_s, stream=True)

    def _run(
        self, prompt: str | None, options: dict[str, Any], timeout_s: float | None, *, stream: bool
    ) -> Generator[Delta, None, None]:
        message = to_message(self._model, inputs_of(prompt, options, stream=stream))
        call = self._infer(message, timeout=timeout_s)
        refusal: RequestError | None = None
        try:
            for response in call:
                if response.error_message:  # read on: Triton 2.51 never lets go of a request cancelled right here
                    refusal = refusal or from_wire(response.error_message)
                else:
                    yield to_delta(response.infer_response)
        except grpc.RpcError as error:
            raise refusal or from_rpc(error) from None
        finally:
            call.cancel()
        if refusal:
            raise refusal


class AsyncClient:
    """The same for asyncio; use it in one event loop."""

    def __init__(
        self,
        address: str = "127.0.0.1:8001",
        model: str = ENSEMBLE_ALIAS,
        connections: int = 1,
        *,
        direct: bool = False,
    ) -> None:
        self._first, engine, _ = stage_names(model)
        self._model = engine if direct else model
        self._channels = [Channel(address) for _ in range(connections)]
        self._next = itertools.cycle(self._channels)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; requests in flight are cancelled."""
        for channel in self._channels:
            channel.close()

    async def ready(self, timeout_s: float = 5) -> bool:
        """Whether a server answers and has the model loaded."""
        question = service_pb2.ModelReadyRequest(name=self._model).SerializeToString()
        try:
            call = await self._channels[0].call(_READY, question, timeout_s)
            return bool(service_pb2.ModelReadyResponse.FromString(await call.read() or b"").ready)
        except RequestError:
            return False

    async def generate(self, prompt: str | None = None, *, timeout_s: float | None = None, **options: Any) -> Answer:
        """The whole answer; see :meth:`Client.generate`."""
        inputs = inputs_of(prompt, options, stream=False)
        return joined([delta async for delta in self.deltas(inputs, timeout_s=timeout_s)])

    async def stream(
        self, prompt: str | None = None, *, timeout_s: float | None = None, **options: Any
    ) -> AsyncGenerator[Delta, None]:
        """The answer's deltas as they come; see :meth:`Client.stream`."""
        async for delta in self.deltas(inputs_of(prompt, options, stream=True), timeout_s=timeout_s):
            yield delta

    async def count(self, inputs: Inputs, *, timeout_s: float | None = None) -> int:
        """Tokens of the prompt that these input tensors make, as the deployment's first stage counts them.

        Raises:
            RequestError: what a request with these tensors would be refused with.
        """
        return len((await self._first_stage(self._to_first_stage(inputs), timeout_s)).input_ids)

    async def tokenize(
        self, inputs: Inputs, *, add_special_tokens: bool = True, timeout_s: float | None = None
    ) -> Tokens:
        """The tokens of the prompt that these input tensors make, more than the context has too.

        Args:
            add_special_tokens: a text has those of the model; a chat has its template's anyway.

        Raises:
            RequestError: they make no prompt.
        """
        message = self._to_first_stage(inputs)
        message.parameters[TOKENIZE].bool_param = add_special_tokens
        found = await self._first_stage(message, timeout_s)
        if found.tokenized is None:
            raise InternalError("the server tokenizes for no one: it is older than this client")
        return Tokens(found.input_ids, found.tokenized.tokens, found.tokenized.text)

    def _to_first_stage(self, inputs: Inputs) -> service_pb2.ModelInferRequest:
        return to_message(self._first, inputs, outputs=(ENGINE_REQUEST.name,))

    async def _first_stage(self, message: service_pb2.ModelInferRequest, timeout_s: float | None) -> EngineRequest:
        """What the first stage makes of a request."""
        async with aclosing(self._responses(message, timeout_s)) as responses:
            (response,) = [each async for each in responses]
        (packed,) = response.raw_output_contents
        return unpack_request(np.frombuffer(packed, dtype=np.uint8))

    async def deltas(
        self,
        inputs: Inputs,
        *,
        timeout_s: float | None = None,
        request_id: str = "",
        outputs: Iterable[str] = OUTPUTS,
    ) -> AsyncGenerator[Delta, None]:
        """What comes back for these input tensors; little is read from the server ahead of its consumer.

        Args:
            outputs: the tensors wanted back, as for :func:`clients.wire.to_message`.
        """
        message = to_message(self._model, inputs, request_id, outputs)
        async with aclosing(self._responses(message, timeout_s)) as responses:
            async for response in responses:
                yield to_delta(response)

    async def _responses(
        self, message: service_pb2.ModelInferRequest, timeout_s: float | None
    ) -> AsyncGenerator[service_pb2.ModelInferResponse, None]:
        """What one call answers; leaving it cancels it."""
        call = await next(self._next).call(INFER, message.SerializeToString(), timeout_s)
        refusal: RequestError | None = None
        try:
            while (packed := await call.read()) is not None:
                response = service_pb2.ModelStreamInferResponse.FromString(packed)
                if response.error_message:  # read on, as above
                    refusal = refusal or from_wire(response.error_message)
                else:
                    yield response.infer_response
        except RequestError as error:
            raise refusal or error from None
        finally:
            call.cancel()
        if refusal:
            raise refusal
