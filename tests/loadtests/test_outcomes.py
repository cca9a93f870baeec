"""Every way in which a request can end, over each transport, against a server that ends so on purpose."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.load.asking import asked
from loadtests.load.rows import Outcome, Row
from loadtests.load.streams.openai import OpenAI
from loadtests.load.streams.target import Stream, Target
from loadtests.load.streams.triton_grpc import TritonGrpc
from loadtests.load.streams.triton_http import TritonHttp
from loadtests.load.workload import Ask
from loadtests.sse import StreamedResponse
from tests.loadtests.known import Timings
from tests.loadtests.known_server import Running, known_server

ASK = Ask(({"role": "user", "content": "tide"},), 8)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with known_server(tmp_path_factory.mktemp("known"), Timings(ttft=0.02, gap=0.005, chunks=6)) as running:
        yield running


def stream(transport: str, target: Target) -> Stream:
    if transport == "triton-grpc":
        return TritonGrpc(target)
    return TritonHttp(target) if transport == "triton-http" else OpenAI(target, chat=transport == "openai")


def ended(server: Running, transport: str, model: str, ask: Ask = ASK, timeout_s: float = 10) -> Row:
    row = Row(number=0, intended=0, sent=0)
    target = Target(server.host(transport), model, timeout_s)
    asked(stream(transport, target), ask, row, time.perf_counter)
    return row


@pytest.mark.parametrize(
    ("transport", "model", "outcome", "detail"),
    [
        ("openai", "plain", Outcome.COMPLETE, ""),
        ("openai", "busy", Outcome.RATE_LIMITED, "busy"),
        ("openai", "wrong", Outcome.REFUSED, "wrong"),
        ("openai", "failing", Outcome.SERVER_ERROR, "failing"),
        ("openai", "broken", Outcome.MID_STREAM, "the engine died"),
        ("openai", "cut", Outcome.TRUNCATED, ""),
        ("openai", "undone", Outcome.TRUNCATED, "without [DONE]"),
        ("openai", "empty", Outcome.EMPTY, "no content"),
        ("openai-text", "plain", Outcome.COMPLETE, ""),
        ("triton-http", "plain", Outcome.COMPLETE, ""),
        ("triton-http", "busy", Outcome.RATE_LIMITED, "overloaded"),
        ("triton-http", "broken", Outcome.MID_STREAM, "the engine died"),
        ("triton-grpc", "plain", Outcome.COMPLETE, ""),
        ("triton-grpc", "busy", Outcome.RATE_LIMITED, "overloaded"),
        ("triton-grpc", "broken", Outcome.MID_STREAM, "the engine died"),
    ],
)
def test_outcomes(server: Running, transport: str, model: str, outcome: Outcome, detail: str) -> None:
    row = ended(server, transport, model)
    assert (row.outcome, detail in row.detail) == (outcome, True), row.detail
    assert row.ended
    if outcome is Outcome.COMPLETE:
        assert (len(row.chunks), row.output_tokens, row.prompt_tokens) == (6, 11, 7)
    if outcome in {Outcome.MID_STREAM, Outcome.TRUNCATED}:
        assert len(row.chunks) == 3


def test_silence_is_a_timeout(server: Running) -> None:
    assert ended(server, "openai", "silent", timeout_s=0.3).outcome is Outcome.TIMEOUT


@pytest.mark.parametrize("transport", ["openai", "triton-http", "triton-grpc"])
def test_no_server(transport: str) -> None:
    nobody = Running(http=1, grpc=1, log=Path("/dev/null"))
    assert ended(nobody, transport, "plain", timeout_s=5).outcome is Outcome.CONNECT


@pytest.mark.parametrize("transport", ["openai", "triton-http", "triton-grpc"])
def test_leaving_after_some_chunks(server: Running, transport: str) -> None:
    row = ended(server, transport, "plain", Ask(ASK.messages, 8, cancel_after=2))
    assert (row.outcome, len(row.chunks)) == (Outcome.CANCELLED, 2)


def test_lines_are_whole_wherever_packets_end() -> None:
    body = 'data: {"text": "héllo 🌊"}\r\n\r\ndata: [DONE]\n\nlast'.encode()
    framed = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:9], body[9:23], body[23:])) + b"0\r\n\r\n"
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + framed
    for size in (1, 2, 7, len(whole)):
        response = StreamedResponse()
        lines = [line for at in range(0, len(whole), size) for line in response.feed(whole[at : at + size])]
        assert lines == ['data: {"text": "héllo 🌊"}'.encode(), b"", b"data: [DONE]", b"", b"last"]
        assert (response.status, response.ended, response.cut()) == (200, True, False)
    half = StreamedResponse()
    half.feed(whole[:60])
    assert half.cut()
    unframed = StreamedResponse()
    unframed.feed(b"HTTP/1.1 200 OK\r\n\r\nabc")
    assert (unframed.cut(), unframed.rest()) == (False, b"abc")
