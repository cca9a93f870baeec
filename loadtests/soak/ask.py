"""One request over one door, and how it ended: whole, given up, told of a failure, broken off, silently short, or hung.

A stream that was cut must never look whole: gRPC ends it in an error, HTTP in an error event or a broken body.
"""

import asyncio
import itertools
import json
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import grpc
import httptools
from tritonclient.grpc import service_pb2

from clients.grpc import stream_infer
from clients.wire import to_delta
from contract.errors import InternalError, Unavailable, from_wire
from contract.spec import Deployment
from loadtests.sse import StreamedResponse, request

CONNECTIONS = 4  # to the server, ours and the gateway's
HANG_S = 60.0  # without a byte
_SMALL_BUFFER = 4096  # of a slow reader's socket


class Way(StrEnum):
    """A door, and what is asked there."""

    GRPC = "grpc"
    CHAT = "chat"
    TEXT = "text"


class End(StrEnum):
    """How a request ended, as its client can tell."""

    WHOLE = "whole"
    CANCELLED = "cancelled"  # by its client
    TOLD = "told"  # an error event, a status, or gRPC's error
    BROKEN = "broken"  # the connection was cut in the middle of the body: HTTP's own way to tell
    SILENT = "silent"  # it ended as a whole answer ends, and was none
    HUNG = "hung"


@dataclass(frozen=True)
class Ask:
    """What is asked, ready to be sent: a body for the gateway, or a message for Triton."""

    way: Way
    sent: bytes | service_pb2.ModelInferRequest
    echo: str | None = ""  # what must come back: nothing to a malformed request; none: whatever the model says
    sound: bool = True
    cancel_after: int | None = None  # so many pieces of text
    pause_s: float = 0.0  # between two reads of a slow reader


@dataclass
class Story:
    """What its client saw of a request; times are time.monotonic()."""

    ask: Ask
    began: float
    ended: float = 0.0
    end: End = End.SILENT
    text: str = ""
    said: str = ""  # of a failure
    code: int = 0  # the status, or what the contract's error would be over HTTP
    pieces: int = 0

    @property
    def right(self) -> bool:
        """Whether the text is what was to come."""
        return self.ask.echo in {None, self.text}


class Doors:
    """Connections to a deployment; make it in the event loop that will use it."""

    def __init__(self, spec: Deployment, connections: int = CONNECTIONS) -> None:
        self._host, self._port = spec.gateway.host, spec.ports.gateway
        options = (
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 1000),
        )
        address = f"{spec.ports.host}:{spec.ports.grpc}"
        self._channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(connections)]
        self._infer = itertools.cycle([stream_infer(channel) for channel in self._channels])

    async def close(self) -> None:
        """Close them."""
        for channel in self._channels:
            await channel.close()

    async def tell(self, ask: Ask, story: Story | None = None) -> Story:
        """Send a request and follow it to its end.

        Args:
            story: where to write, for who wants to read meanwhile.
        """
        story = story or Story(ask, time.monotonic())
        follow = self._over_grpc if ask.way is Way.GRPC else self._over_http
        try:
            async with aclosing(follow(ask, story)) as pieces:
                while True:
                    async with asyncio.timeout(HANG_S):
                        text = await anext(pieces)
                    story.text += text
                    story.pieces += 1
                    if ask.cancel_after is not None and story.pieces > ask.cancel_after:
                        story.end = End.CANCELLED
                        break
                    if ask.pause_s:
                        await asyncio.sleep(ask.pause_s)
        except StopAsyncIteration:
            pass
        except TimeoutError:
            story.end = End.HUNG
        story.ended = time.monotonic()
        return story

    async def _over_grpc(self, ask: Ask, story: Story) -> AsyncGenerator[str, None]:
        call = next(self._infer)(ask.sent)
        try:
            async for response in call:
                if response.error_message:
                    error = from_wire(response.error_message)
                    story.end, story.said, story.code = End.TOLD, str(error), error.codes.http
                    continue  # to the end: Triton 2.51 keeps what is cancelled right here
                delta = to_delta(response.infer_response)
                if delta.finish_reason and story.end is not End.TOLD:
                    story.end = End.WHOLE
                if delta.text:
                    yield delta.text
        except grpc.aio.AioRpcError as error:
            gone = error.code() is grpc.StatusCode.UNAVAILABLE
            story.end, story.said = End.TOLD, f"{error.code().name}: {error.details()}"
            story.code = (Unavailable if gone else InternalError).codes.http
        finally:
            call.cancel()

    async def _over_http(self, ask: Ask, story: Story) -> AsyncGenerator[str, None]:
        assert isinstance(ask.sent, bytes)
        path = "/v1/chat/completions" if ask.way is Way.CHAT else "/v1/completions"
        response, done, writer = StreamedResponse(), False, None
        try:
            reader, writer = await self._connect(slow=bool(ask.pause_s))
            writer.write(request(self._host, path, ask.sent))
            while not response.ended and (data := await reader.read(1024 if ask.pause_s else 65536)):
                for line in response.feed(data):
                    if line == b"data: [DONE]":
                        done = True
                    elif line.startswith((b"data: ", b'{"error"')):
                        text = _taken(json.loads(line.removeprefix(b"data: ")), response.status, story)
                        if text:
                            yield text
            if story.end is not End.TOLD:
                story.end = End.WHOLE if done else End.BROKEN if response.cut() else End.SILENT
        except (OSError, httptools.HttpParserError) as error:
            if story.end is not End.TOLD:
                story.end, story.said = End.BROKEN, str(error)
        finally:
            if writer:
                writer.close()

    async def _connect(self, *, slow: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if not slow:
            return await asyncio.open_connection(self._host, self._port)
        own = socket.socket()
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
        own.setblocking(False)
        with suppress(BlockingIOError):
            await asyncio.get_running_loop().sock_connect(own, (self._host, self._port))
        return await asyncio.open_connection(sock=own, limit=_SMALL_BUFFER)


def _taken(event: dict[str, Any], status: int, story: Story) -> str:
    """The text of one event; an error goes to the story."""
    if "error" in event:
        story.end, story.said, story.code = End.TOLD, str(event["error"]["message"]), status
        return ""
    return "".join(
        choice["text"] if "text" in choice else choice["delta"].get("content") or "" for choice in event["choices"]
    )
