"""A case sent as its client would, and what came back: an answer, a closed connection, or nothing for too long."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

import grpc
from tritonclient.grpc import service_pb2

from contract.spec import Deployment
from tests.fuzz.case import Case, Door

HANG_S = 20.0
_QUIET_S = 1.0  # without a byte: the request was no whole one, so its client stops sending
_MOST = 2**20  # bytes that are read of one answer
_STREAMED = "ModelStreamInfer"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int = 0  # HTTP's; 0: none
    said: str = ""
    hung: bool = False


async def send(case: Case, spec: Deployment, channel: grpc.aio.Channel) -> Answer:
    """Send one case and wait for what comes of it."""
    try:
        async with asyncio.timeout(HANG_S):
            if case.method:
                return Answer(said=await _call(case, channel))
            return await _bytes(case, getattr(spec.ports, case.door))
    except TimeoutError:
        return Answer(hung=True)


async def _bytes(case: Case, port: int) -> Answer:
    received = b""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError as error:
        return Answer(said=str(error))
    writing = asyncio.create_task(_write(writer, case.parts))
    try:
        with suppress(OSError):
            while len(received) < _MOST and (piece := await _read(reader, writer, writing, begun=bool(received))):
                received += piece
                if case.door is not Door.GRPC and _is_whole(received):
                    break
    finally:
        writing.cancel()
        writer.transport.abort()
    line = received.split(b"\r\n", 1)[0].split()
    status = int(line[1]) if len(line) > 1 and line[1].isdigit() else 0
    return Answer(status, received[:4096].decode("latin-1") + received[4096:][-4096:].decode("latin-1"))


async def _read(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, writing: asyncio.Task[None], *, begun: bool
) -> bytes:
    """What comes next; nothing once an answer has paused. Who gets none at all says that there is no more to come."""
    while True:
        try:
            async with asyncio.timeout(_QUIET_S):
                return await reader.read(65536)
        except TimeoutError:
            if writing.done():
                break
    if begun:
        return b""
    writer.write_eof()
    return await reader.read(65536)


async def _write(writer: asyncio.StreamWriter, parts: tuple[bytes, ...]) -> None:
    with suppress(OSError):
        for part in parts:
            writer.write(part)
            await writer.drain()


def _is_whole(received: bytes) -> bool:
    head, blank, body = received.partition(b"\r\n\r\n")
    if not blank:
        return False
    length = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return len(body) >= int(length[0]) if length else body.endswith(b"0\r\n\r\n")


async def _call(case: Case, channel: grpc.aio.Channel) -> str:
    """What a call said: its error messages and its status."""
    path = f"/inference.GRPCInferenceService/{case.method}"
    said = []
    try:
        if case.method == _STREAMED:
            call = channel.stream_stream(path)(_each(case.parts), metadata=case.metadata)
            async for raw in call:
                with suppress(Exception):  # it need not be a message that we know
                    said.append(service_pb2.ModelStreamInferResponse.FromString(raw).error_message)
        else:
            await channel.unary_unary(path)(case.parts[0] if case.parts else b"", metadata=case.metadata)
    except grpc.aio.AioRpcError as error:
        said.append(f"{error.code().name}: {error.details()}")
    except (ValueError, TypeError) as error:  # metadata that our own client refuses to send
        said.append(f"not sent: {error}")
    return "\n".join(each for each in said if each)


async def _each(parts: tuple[bytes, ...]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
