"""The filter's gRPC door, byte by byte: however they come, the same frames pass, and the same are refused."""

import asyncio
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from contract import http2
from contract.http2 import frame
from serving.filter.calls import GrpcRelay
from serving.filter.relay import MOST_BYTES, PATIENCE_S, Relay
from tests.serving.wire import Wire, joined

SERVICE = "/inference.GRPCInferenceService/"
INFER = f"{SERVICE}ModelStreamInfer"


@pytest.fixture(autouse=True)
def _nobody_is_left() -> Iterator[None]:
    yield
    Relay.all.clear()


def opening(stream: int, encoder: Encoder | None = None, method: str = "ModelStreamInfer", **more: str) -> bytes:
    """The HEADERS of a call."""
    headers = {":method": "POST", ":scheme": "http", ":path": SERVICE + method, ":authority": "x", "te": "trailers"}
    headers |= {"content-type": "application/grpc"} | {name.replace("_", "-"): value for name, value in more.items()}
    block = (encoder or Encoder()).encode(list(headers.items()))
    return frame(http2.HEADERS, http2.END_HEADERS, stream, block)


def message(class_count: int = 0, prompt: bytes = b"tide") -> bytes:
    made = service_pb2.ModelInferRequest(model_name="x")
    made.inputs.add(name="text_input", datatype="BYTES", shape=[1, 1])
    made.raw_input_contents.append(prompt)
    output = made.outputs.add(name="text_output")
    if class_count:
        output.parameters["classification"].int64_param = class_count
    packed: bytes = made.SerializeToString()
    return b"\0" + len(packed).to_bytes(4) + packed


def frames(data: bytes | bytearray) -> list[tuple[int, int, int, bytes]]:
    """Kind, flags, stream and payload of each."""
    found, at = [], 0
    while at < len(data):
        length, kind, flags, stream = http2.head_of(data, at)
        found.append((kind, flags, stream, bytes(data[at + 9 : at + 9 + length])))
        at += 9 + length
    return found


def data(stream: int, payload: bytes, *, end: bool = False) -> bytes:
    return frame(http2.DATA, http2.END_STREAM if end else 0, stream, payload)


def headers_of(block: bytes) -> dict[str, str]:
    return {str(name): str(value) for name, value in Decoder().decode(block)}


def pieces(whole: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(cut, len(whole)) for cut in cuts} | {0, len(whole)})
    return [whole[start:end] for start, end in pairwise(places)]


SETTINGS = frame(http2.SETTINGS, 0, 0, b"\0\4\0\x10\0\0")
CUTS = st.lists(st.integers(0, 2000), max_size=40)


@given(CUTS)
def test_what_a_client_sends_passes_alike_however_it_is_cut(cuts: list[int]) -> None:
    encoder = Encoder()
    long = message(prompt=b"x" * 500)
    sent = (
        SETTINGS
        + opening(1, encoder=encoder, grpc_timeout="5S", user_agent="me")
        + data(1, long[:300])
        + frame(http2.PING, 0, 0, bytes(8))
        + opening(3, encoder=encoder, x="y")
        + data(1, long[300:])
        + data(3, message(), end=True)
        + frame(http2.WINDOW_UPDATE, 0, 1, (9).to_bytes(4))
        + data(1, message()[:7])
        + frame(http2.RST_STREAM, 0, 1, (8).to_bytes(4))
    )
    relay = GrpcRelay("", "", ())
    client, server = joined(relay)
    for piece in pieces(sent, cuts):
        relay.data_received(piece)
    passed = frames(server.sent)
    kinds = [(kind, stream) for kind, _, stream, _ in passed]
    assert kinds == [(4, 0), (1, 1), (0, 1), (6, 0), (1, 3), (0, 1), (0, 3), (8, 1), (0, 1), (3, 1)]
    assert b"".join(payload for kind, _, stream, payload in passed if (kind, stream) == (0, 1)) == long + message()[:7]
    headers = headers_of(passed[1][3])
    assert headers[":path"] == INFER and headers["grpc-timeout"] == "5S"
    assert "user-agent" not in headers
    assert not client.sent and not client.closed


@given(CUTS)
def test_what_triton_sends_passes_as_it_is(cuts: list[int]) -> None:
    sent = SETTINGS + frame(http2.SETTINGS, http2.ACK, 0) + frame(http2.HEADERS, 0, 1, b"abc")
    sent += (
        frame(http2.CONTINUATION, http2.END_HEADERS, 1, b"d") + data(1, b"x" * 700) + frame(http2.PING, 0, 0, bytes(8))
    )
    relay = GrpcRelay("", "", ())
    client, _ = joined(relay)
    for piece in pieces(sent, cuts):
        relay.answered(piece)
    assert client.sent == sent


@given(CUTS, st.booleans())
def test_a_bad_message_ends_its_call_alone_and_where_triton_has_confirmed(cuts: list[int], begun: bool) -> None:
    encoder = Encoder()
    bad = message(class_count=1)
    sent = SETTINGS + opening(1, encoder=encoder) + opening(3, encoder=encoder) + data(3, message()) + data(1, bad[:20])
    sent += data(1, bad[20:]) + data(1, b"more") + data(3, message(), end=True)
    relay = GrpcRelay("", "", ())
    client, server = joined(relay)
    for piece in pieces(sent, cuts):
        relay.data_received(piece)
    passed = frames(server.sent)
    assert b"".join(payload for kind, _, stream, payload in passed if (kind, stream) == (0, 1)) == bad[:20]
    assert (http2.RST_STREAM, 0, 1, (8).to_bytes(4)) in passed
    assert [kind for kind, _, stream, _ in passed if (kind, stream) == (4, 0)] == [4, 4]
    given_back = sum(int.from_bytes(payload) for kind, _, stream, payload in frames(client.sent) if kind == 8)
    assert given_back == len(bad) - 20 + 4
    client.sent.clear()

    acknowledged = frame(http2.SETTINGS, http2.ACK, 0)
    first = frame(http2.HEADERS, http2.END_HEADERS, 1, b"") if begun else b""
    answer = acknowledged + first + data(3, b"y" * 300) + acknowledged + data(3, b"z" * 30)
    for piece in pieces(answer, cuts):
        relay.answered(piece)
    got = frames(client.sent)
    told = [payload for kind, flags, stream, payload in got if (kind, stream) == (1, 1) and flags & http2.END_STREAM]
    headers = headers_of(told[0])
    assert headers["grpc-status"] == "3" and "classification" in headers["grpc-message"]
    assert (":status" in headers) is not begun
    others = [each for each in got if each[2] != 1]
    assert others == [(4, 1, 0, b""), (0, 0, 3, b"y" * 300), (0, 0, 3, b"z" * 30)]


def test_a_call_that_triton_ended_itself_is_not_ended_twice() -> None:
    relay = GrpcRelay("", "", ())
    client, _ = joined(relay)
    relay.data_received(SETTINGS + opening(1) + data(1, message(class_count=1)))
    client.sent.clear()
    ended = frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, 1, b"")
    acknowledged = frame(http2.SETTINGS, http2.ACK, 0)
    relay.answered(acknowledged + ended + acknowledged)
    assert client.sent == acknowledged + ended


def test_padding_is_given_back_and_not_passed() -> None:
    relay = GrpcRelay("", "", ())
    client, server = joined(relay)
    padded = frame(http2.DATA, http2.PADDED | http2.END_STREAM, 1, b"\x07" + message() + bytes(7))
    relay.data_received(SETTINGS + opening(1) + padded)
    assert frames(server.sent)[-1] == (http2.DATA, http2.END_STREAM, 1, message())
    assert [(stream, payload) for _, _, stream, payload in frames(client.sent)] == [
        (0, (8).to_bytes(4)),
        (1, (8).to_bytes(4)),
    ]


BROKEN = {
    "a frame too large": frame(http2.HEADERS, 0, 1)[3:].rjust(9, b"\xff"),
    "an endless header block": frame(http2.HEADERS, 0, 1, b"\0" * 16000) + frame(9, 0, 1, b"\0" * 400),
    "a frame within a header block": frame(http2.HEADERS, 0, 1, b"") + frame(http2.PING, 0, 0, bytes(8)),
    "an end without a header block": frame(http2.CONTINUATION, 4, 1, b""),
    "a header block of nothing": frame(http2.HEADERS, 4, 1, b"\x80"),
    "headers that unpack without end": frame(
        http2.HEADERS, 4, 1, b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000 + b"\xbe" * 12000
    ),
    "an even stream": opening(2),
    "a stream that was before": opening(3) + opening(1),
    "data of no call": data(5, b"x"),
    "data of the connection": data(0, b"x"),
    "padding beyond its frame": opening(1) + frame(http2.DATA, http2.PADDED, 1, b"\xffx"),
    "a reset of no call": frame(http2.RST_STREAM, 0, 7, bytes(4)),
    "a short ping": frame(http2.PING, 0, 0, b"x"),
    "half a setting": frame(http2.SETTINGS, 0, 0, b"1234567"),
    "settings without end": frame(http2.SETTINGS, 0, 0) * 100,
    "a push": frame(http2.PUSH_PROMISE, 4, 1, bytes(4)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_http2_ends_its_connection(name: str) -> None:
    async def ended() -> Wire:
        relay = GrpcRelay("", "", ())
        client, _ = joined(relay)
        relay.data_received(BROKEN[name])
        return client

    client = asyncio.run(ended())
    assert client.closed
    assert frames(client.sent)[-1][0] == http2.GOAWAY


@given(st.binary(max_size=400), CUTS)
def test_garbage_raises_nothing(garbage: bytes, cuts: list[int]) -> None:
    relay = GrpcRelay("", "", ())
    client, _ = joined(relay)
    for piece in pieces(SETTINGS + garbage, cuts):
        if not client.closed:
            relay.data_received(piece)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("triton_grpc_error", "true", "triton_grpc_error"),
        ("grpc-timeout", "soon", "digits"),
        ("grpc-encoding", "br", "gzip"),
    ],
)
def test_a_call_that_may_not_begin_never_reaches_triton(name: str, value: str, said: str) -> None:
    block = Encoder().encode([(":method", "POST"), (":path", INFER), (name, value)])
    relay = GrpcRelay("", "", ())
    client, server = joined(relay)
    begun = frame(http2.HEADERS, http2.END_HEADERS, 1, block)
    relay.data_received(SETTINGS + begun + data(1, message(), end=True))
    assert frames(server.sent) == frames(SETTINGS)
    assert said in headers_of(frames(client.sent)[0][3])["grpc-message"]


def test_a_unary_call_that_its_client_leaves_is_not_cancelled() -> None:
    async def passed(first: bytes, then: bytes) -> list[tuple[int, int]]:
        relay = GrpcRelay("", "", ())
        _, server = joined(relay)
        relay.data_received(SETTINGS + opening(1, method="ModelInfer", grpc_timeout="1n") + data(1, first))
        headers = headers_of(frames(server.sent)[1][3])
        assert int(headers["conch_key"]) >= 1 << 62 and "grpc-timeout" not in headers
        relay.data_received(then)
        relay.connection_lost(None)
        assert server.closed is (first != message())
        relay.answered(frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, 1, b""))
        assert server.closed
        return [(kind, stream) for kind, _, stream, _ in frames(server.sent)[3:]]

    whole, part = message(), message()[:9]
    reset = frame(http2.RST_STREAM, 0, 1, (8).to_bytes(4))
    assert asyncio.run(passed(whole, b"")) == [(8, 1), (8, 0)]
    assert asyncio.run(passed(whole, reset)) == [(8, 1), (8, 0)]
    assert asyncio.run(passed(whole, data(1, message(class_count=1)) + reset)) == [(8, 1), (8, 0)]
    assert asyncio.run(passed(part, reset)) == [(3, 1)]


def test_who_does_not_read_is_not_read_from() -> None:
    relay = GrpcRelay("", "", ())
    client, server = joined(relay)
    behind = relay
    relay.pause_writing()
    assert not server.reading and not client.reading
    behind.halt()
    relay.resume_writing()
    assert server.reading and not client.reading
    behind.proceed()
    assert client.reading


def test_nothing_that_has_begun_waits_for_ever() -> None:
    relay = GrpcRelay("", "", ())
    client, _ = joined(relay)
    late = time.monotonic() + PATIENCE_S + 1
    assert relay.overdue(late)  # no preface
    relay.data_received(SETTINGS)
    assert not relay.overdue(late)  # an idle connection
    relay.data_received(SETTINGS[:5])
    assert relay.overdue(late)  # a part of a frame
    relay.data_received(SETTINGS[5:] + opening(1))
    assert not relay.overdue(late)  # a call that waits for its next message
    relay.data_received(data(1, message()[:9]))
    assert relay.overdue(late)  # a part of a message
    relay.data_received(data(1, message()[9:]))
    assert not relay.overdue(late)
    client.unsent = 5
    assert not relay.overdue(late)
    assert relay.overdue(late + PATIENCE_S + 1)  # an answer that nobody takes


def test_a_message_larger_than_the_bound_is_refused_at_its_head() -> None:
    relay = GrpcRelay("", "", ())
    _, server = joined(relay)
    relay.data_received(SETTINGS + opening(1) + data(1, b"\0" + MOST_BYTES.to_bytes(4)))
    assert http2.RST_STREAM in [kind for kind, *_ in frames(server.sent)]
