"""The instant upstream as Triton's: the same answer over gRPC, which is what our gateway asks.

A gRPC server in Python would cost more than the gateway before it, so the frames of HTTP/2 are written here. Every call
is taken for ModelStreamInfer, the only one that a gateway makes for a chat. The tensors are those that the engine's
stage answers with (tests/loadtests/test_gateway_peers.py compares them with a real server's).
"""

import asyncio
from collections import deque
from typing import cast

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from contract import http2
from contract.http2 import frame
from contract.tensors import stage_names
from loadtests.gateway_peers.answers import MODEL, PROMPT_TOKENS, WORD, WORDS

_INITIAL_WINDOW_SIZE = 4  # a setting
_WINDOW = 65_535  # of a connection that has said nothing yet
_MORE = 1 << 24  # what a client may send beyond that


def _bytes(text: str) -> tuple[str, list[int], bytes]:
    return "BYTES", [1], len(text.encode()).to_bytes(4, "little") + text.encode()


def _int32(number: int) -> tuple[str, list[int], bytes]:
    return "INT32", [1, 1], number.to_bytes(4, "little")


def responses(*, stream: bool) -> list[service_pb2.ModelStreamInferResponse]:
    """An answer's, as the engine's stage makes them: each has what it has news of."""
    texts = [WORD] * WORDS if stream else [WORD * WORDS]
    made = []
    for number, text in enumerate(texts):
        tensors = {"text_output": _bytes(text)}
        last = number == len(texts) - 1
        if last:
            tensors["finish_reason"] = _bytes("length")
        if last or not number:
            tensors["num_input_tokens"] = _int32(PROMPT_TOKENS)
        if last:
            tensors |= {"num_output_tokens": _int32(WORDS), "num_cached_tokens": _int32(0)}
        response = service_pb2.ModelStreamInferResponse()
        infer = response.infer_response
        infer.model_name, infer.model_version = stage_names(MODEL)[1], "1"
        for name, (datatype, shape, raw) in tensors.items():
            infer.outputs.add(name=name, datatype=datatype, shape=shape)
            infer.raw_output_contents.append(raw)
        made.append(response)
    return made


class _Frames:
    """An answer whose frames lack nothing but the number of their stream."""

    def __init__(self, *, stream: bool) -> None:
        packed = [response.SerializeToString() for response in responses(stream=stream)]
        messages = [b"\x00" + len(each).to_bytes(4) + each for each in packed]
        opened = b"\x88" + http2.literals([(b"content-type", b"application/grpc")])  # :status 200
        frames = [
            frame(http2.HEADERS, http2.END_HEADERS, 0, opened),
            *(frame(http2.DATA, 0, 0, message) for message in messages),
            frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, 0, http2.literals([(b"grpc-status", b"0")])),
        ]
        self.size = sum(map(len, messages))  # what counts against windows
        rest = b""
        self._between = []
        for each in frames:
            self._between.append(rest + each[:5])
            rest = each[http2.HEAD :]
        self._between.append(rest)

    def of(self, stream: int) -> bytes:
        """As they go out."""
        return stream.to_bytes(4).join(self._between)


_ANSWERS = {stream: _Frames(stream=stream) for stream in (False, True)}


class Triton(asyncio.Protocol):
    """One connection and its calls."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._unread = bytearray()
        self._begun = False
        self._bodies: dict[int, bytearray] = {}
        self._room, self._taken = _WINDOW, 0
        self._waiting: deque[tuple[int, _Frames]] = deque()  # for room

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._transport.write(frame(http2.SETTINGS, 0, 0) + frame(http2.WINDOW_UPDATE, 0, 0, _MORE.to_bytes(4)))

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        self._unread += data
        try:
            self._read()
        except (ValueError, KeyError, DecodeError) as error:
            print(f"the instant upstream cannot read this: {error!r}", flush=True)
            self._transport.abort()

    def _read(self) -> None:
        unread, at = self._unread, 0
        if not self._begun:
            if len(unread) < len(http2.PREFACE):
                return
            if not unread.startswith(http2.PREFACE):
                raise ValueError("it is no HTTP/2")
            self._begun, at = True, len(http2.PREFACE)
        while len(unread) - at >= http2.HEAD:
            length, kind, flags, stream = http2.head_of(unread, at)
            begins = at + http2.HEAD
            ends = begins + length
            if len(unread) < ends:
                break
            self._take(kind, flags, stream, bytes(unread[begins:ends]))
            at = ends
        del unread[:at]
        self._send()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind in (http2.HEADERS, http2.DATA) and flags & http2.PADDED:
            raise ValueError("a frame is padded")
        if kind == http2.HEADERS:
            self._bodies[stream] = bytearray()
        elif kind == http2.DATA:
            self._bodies[stream] += payload
            self._taken += len(payload)
        elif kind == http2.SETTINGS and not flags & http2.ACK:
            self._settle(payload)
        elif kind == http2.PING and not flags & http2.ACK:
            self._transport.write(frame(http2.PING, http2.ACK, 0, payload))
        elif kind == http2.WINDOW_UPDATE and not stream:
            self._room += int.from_bytes(payload)
        elif kind == http2.RST_STREAM:
            self._bodies.pop(stream, None)
        if kind in (http2.HEADERS, http2.DATA) and flags & http2.END_STREAM:
            self._waiting.append((stream, _ANSWERS[_streamed(bytes(self._bodies.pop(stream)))]))

    def _settle(self, payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            name, value = int.from_bytes(payload[at : at + 2]), int.from_bytes(payload[at + 2 : at + 6])
            if name == _INITIAL_WINDOW_SIZE and value < _ANSWERS[True].size:
                raise ValueError(f"the window of a stream is {value}, less than an answer")
        self._transport.write(frame(http2.SETTINGS, http2.ACK, 0))

    def _send(self) -> None:
        """What there is room for; and room for what comes."""
        while self._waiting and self._room >= self._waiting[0][1].size:
            stream, frames = self._waiting.popleft()
            self._room -= frames.size
            self._transport.write(frames.of(stream))
        if self._taken > _MORE // 2:
            self._transport.write(frame(http2.WINDOW_UPDATE, 0, 0, self._taken.to_bytes(4)))
            self._taken = 0


def _streamed(body: bytes) -> bool:
    """Whether a call's one message asks for a stream."""
    if len(body) < 5 or len(body) != 5 + int.from_bytes(body[1:5]):
        raise ValueError("a call has other than one message")
    request = service_pb2.ModelInferRequest.FromString(body[5:])
    given = {tensor.name: number for number, tensor in enumerate(request.inputs)}
    return "stream" in given and request.raw_input_contents[given["stream"]] == b"\x01"
