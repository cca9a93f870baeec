"""Gateways side by side: the instant upstreams answer as real ones do, what is no whole answer counts as an error, and
the report says what was measured."""

import asyncio
import io
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from openai import OpenAI
from rich.console import Console

from clients.grpc import AsyncClient, Client, stream_infer
from clients.request import Delta
from clients.wire import to_message
from contract.checkout import ROOT
from contract.errors import ServeError
from contract.tensors import stage_names
from loadtests.gateway_peers import gateways
from loadtests.gateway_peers.__main__ import main, measure
from loadtests.gateway_peers.answers import MODEL, PROMPT, PROMPT_TOKENS, WORD, WORDS, asked
from loadtests.gateway_peers.client import Order, Seen, run
from loadtests.gateway_peers.gateways import UPSTREAM, gateway
from loadtests.gateway_peers.http1 import PATH
from loadtests.gateway_peers.http2 import responses
from loadtests.gateway_peers.report import Round, failed, faults, put, row, table
from loadtests.gateway_peers.upstream import Upstream, upstream
from tests.e2e.servers import synthetic

OUTPUTS = ("text_output", "finish_reason", "num_input_tokens", "num_output_tokens", "num_cached_tokens")


@pytest.fixture(scope="module")
def instant() -> Iterator[Upstream]:
    with upstream() as running:
        yield running


@pytest.fixture
def openai(instant: Upstream) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"http://127.0.0.1:{instant.http}/v1", api_key="sk-any", max_retries=0) as client:
        yield client


def order(port: int, *, stream: bool = False, **more: Any) -> Order:
    return replace(Order("127.0.0.1", port, PATH, {}, asked(stream=stream), 3, 0.1, 0.3), **more)


def test_openai_s_client_reads_both_answers(openai: OpenAI) -> None:
    whole = openai.chat.completions.create(**asked(stream=False))
    assert whole.choices[0].message.content == WORD * WORDS
    assert whole.choices[0].finish_reason == "length"
    chunks = list(openai.chat.completions.create(**asked(stream=True)))
    said = [chunk.choices[0].delta.content for chunk in chunks[:-1]]
    assert said == ["", *[WORD] * WORDS, None]
    assert chunks[-2].choices[0].finish_reason == "length"
    for usage in (whole.usage, chunks[-1].usage):
        assert usage and (usage.prompt_tokens, usage.completion_tokens) == (PROMPT_TOKENS, WORDS)


def test_requests_come_in_any_pieces_and_wrong_ones_are_told(instant: Upstream) -> None:
    body = json.dumps(asked(stream=False)).encode()
    good = b"POST %b HTTP/1.1\r\nhost: here\r\ncontent-length: %d\r\n\r\n%b" % (PATH.encode(), len(body), body)
    elsewhere, empty = b"GET /v1/models HTTP/1.1\r\n\r\n", b"POST %b HTTP/1.1\r\n\r\n" % PATH.encode()
    with socket.create_connection(("127.0.0.1", instant.http)) as connection, connection.makefile("rb") as answers:
        for byte in good:
            connection.sendall(bytes([byte]))
        connection.sendall(elsewhere + empty + good)
        statuses = []
        for _ in range(4):
            statuses.append(int(answers.readline().split()[1]))
            length = 0
            while (line := answers.readline()) != b"\r\n":
                length = int(line.split()[1]) if line.startswith(b"Content-Length") else length
            answers.read(length)
    assert statuses == [200, 404, 400, 200]


def test_our_client_reads_both_answers_over_grpc(instant: Upstream) -> None:
    with Client(f"127.0.0.1:{instant.grpc}", MODEL, direct=True) as client:
        whole = client.generate(messages=json.dumps(PROMPT))
        assert (whole.text, whole.finish_reason) == (WORD * WORDS, "length")
        deltas = list(client.stream(messages=json.dumps(PROMPT)))
    assert [delta.text for delta in deltas] == [WORD] * WORDS
    assert (deltas[0].num_input_tokens, deltas[-1].num_output_tokens) == (PROMPT_TOKENS, WORDS)
    assert [delta.finish_reason for delta in deltas[-2:]] == ["", "length"]


def test_a_connection_s_window_holds_answers_back_and_lets_them_go(instant: Upstream) -> None:
    """300 answers at once are more than a connection has room for; 400 large prompts more than the upstream has."""

    async def ask(client: AsyncClient, padding: str) -> list[Delta]:
        return [delta async for delta in client.stream(padding, timeout_s=60)]

    async def crowd() -> list[list[Delta]]:
        async with AsyncClient(f"127.0.0.1:{instant.grpc}", MODEL, direct=True) as client:
            short = [ask(client, "") for _ in range(300)]
            return [*await asyncio.gather(*short), *[await ask(client, "x" * 60_000) for _ in range(400)]]

    assert {len(answer) for answer in asyncio.run(crowd())} == {WORDS}


def test_what_is_no_grpc_is_hung_up_on(instant: Upstream) -> None:
    with socket.create_connection(("127.0.0.1", instant.grpc)) as connection, connection.makefile("rb") as said:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
        with suppress(ConnectionResetError):
            assert len(said.read()) < 100  # its settings; then the end


def test_the_tensors_are_those_of_a_real_engine_s_stage(tmp_path: Path) -> None:
    """Every response of the double has the names, dtypes and shapes of the real one in its place."""

    def shape(response: Any) -> list[tuple[str, str, list[int]]]:
        assert not response.error_message
        infer = response.infer_response
        assert len(infer.outputs) == len(infer.raw_output_contents)
        assert infer.model_version == "1"
        return sorted((tensor.name, tensor.datatype, list(tensor.shape)) for tensor in infer.outputs)

    with synthetic(tmp_path, step_ms=20) as server:
        address = f"127.0.0.1:{server.spec.ports.grpc}"
        with grpc.insecure_channel(address) as channel:
            for stream in (False, True):
                inputs = {"messages": json.dumps(PROMPT), "max_tokens": WORDS, "stream": stream, "ignore_eos": True}
                message = to_message(stage_names(server.spec.name)[1], inputs, outputs=OUTPUTS)
                real = [shape(response) for response in stream_infer(channel)(message)]
                ours = [shape(response) for response in responses(stream=stream)]
                assert real[0] == ours[0]
                assert real[-1] == ours[-1]
                assert {repr(each) for each in real[1:-1]} <= {repr(each) for each in ours[1:-1]}


def test_our_gateway_is_measured_from_end_to_end(instant: Upstream) -> None:
    with gateway("conch", instant) as door:
        for stream in (False, True):
            seen = measure(
                door, instant, order(door.port, stream=stream, headers=dict(door.headers), clients=10, seconds=1)
            )
            assert seen.seen.errors == {}
            assert seen.seen.requests > 0
            assert seen.gateway_cpu_s > 0
            assert seen.memory_mib > 1
            if stream:  # who speaks, the words, the end, what it used
                assert seen.seen.events_per_answer >= WORDS
        stranger = measure(door, instant, order(door.port, stream=True))
    assert not stranger.seen.requests
    assert all(error.startswith("HTTP 401") for error in stranger.seen.errors)


def test_the_upstream_is_measured_without_a_gateway(instant: Upstream) -> None:
    with gateway(UPSTREAM, instant) as door:
        seen = measure(door, instant, order(door.port, stream=True))
    assert (seen.seen.errors, seen.gateway_cpu_s, seen.memory_mib) == ({}, 0, 0)
    assert seen.seen.events_per_answer == WORDS + 3
    assert 0 < seen.seen.first_ms["p50"] <= seen.seen.latency_ms["p50"]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"HTTP/1.1 503 X\r\nContent-Length: 4\r\n\r\nbusy", "HTTP 503: busy"),
        (b"HTTP/1.1 200 X\r\nContent-Length: 4\r\n\r\ntide", f"1 of {WORDS} words came"),
        (b"HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\n" + WORD.encode() * WORDS, "the stream has no end"),
        (b"HTTP/1.1 200 X\r\nContent-Length: 101\r\n\r\ntide", "the connection broke before the answer was whole"),
        (b"SSH-2.0\r\n", "no HTTP came: "),
        (b"HTTP/1.1 200 X\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno", f"0 of {WORDS} words came"),
        (b"", "no answer came in 0.2 s"),
    ],
)
def test_what_is_no_whole_answer_is_an_error(said: bytes, error: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1 << 16):
            writer.write(said)
            if error.startswith("the connection"):
                break
        writer.close()

    async def seen() -> Seen:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            return await run(order(server.sockets[0].getsockname()[1], stream=True, clients=1, patience_s=0.2))

    found = asyncio.run(seen())
    assert not found.requests
    assert (found.latency_ms, found.first_ms) == ({}, {})
    assert found.errors
    assert all(each.startswith(error) for each in found.errors)


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        found = asyncio.run(run(order(taken.getsockname()[1])))
    assert found.errors
    assert all("Connect call failed" in each for each in found.errors)


def seen_of(requests: int, p50: float, **errors: int) -> Round:
    quantiles = {"p50": p50, "p95": 2 * p50, "p99": 3 * p50}
    seen = Seen(requests, 2.0, quantiles if requests else {}, quantiles if requests else {}, 23, errors, 1.0)
    return Round(seen, 0.5, 0.1, 100 + p50)


def test_a_row_has_medians_and_the_sum_of_the_errors() -> None:
    made = row("conch", "stream", 10, [seen_of(100, 5), seen_of(200, 4), seen_of(1000, 9)])
    assert made == {
        "answer": "stream",
        "clients": 10,
        "gateway": "conch",
        "requests_per_s": 100,
        "latency_ms": {"p50": 5, "p95": 10, "p99": 15},
        "first_ms": {"p50": 5, "p95": 10, "p99": 15},
        "events_per_answer": 23,
        "gateway_cpu_ms": 2.5,
        "upstream_cpu_ms": 0.5,
        "gateway_cores": 0.25,
        "client_cores": 0.5,
        "memory_mib": 109,
        "rounds_requests_per_s": [50, 100, 500],
        "errors": {},
    }
    assert not failed([made])
    broken = row("litellm", "stream", 10, [seen_of(100, 5, late=1), seen_of(0, 0, late=2, busy=3)])
    assert broken["errors"] == {"late": 3, "busy": 3}
    assert broken["rounds_requests_per_s"] == [50]
    assert failed([made, broken])


def test_errors_are_red_and_told_and_no_figure_stands_beside_them() -> None:
    rows = [
        row("conch", "whole", 10, [seen_of(2000, 5)]),
        row("litellm", "whole", 10, [seen_of(100, 7, busy=4)]),
        row("portkey", "whole", 10, [seen_of(0, 0)]),
    ]
    console = Console(width=120, record=True, force_terminal=True, color_system="standard", file=io.StringIO())
    console.print(table(rows))
    shown = console.export_text(styles=True).splitlines()
    (good,), (bad,) = ([line for line in shown if name in line] for name in ("conch", "litellm"))
    assert "1,000" in good and "\x1b[31m" not in good
    assert "4 errors" in bad and "\x1b[31m" in bad and "7.00" not in bad
    assert faults(rows) == ["litellm, whole, 10 clients: 4 × busy", "portkey, whole, 10 clients: nothing came"]


def test_a_row_grows_in_its_place() -> None:
    rows: list[dict[str, Any]] = []
    for name, requests in (("a", 1), ("b", 2), ("a", 3)):
        put(rows, row(name, "whole", 10, [seen_of(requests, 1)]))
    assert [(each["gateway"], each["requests_per_s"]) for each in rows] == [("a", 1.5), ("b", 1)]


@pytest.mark.parametrize(
    ("name", "place", "what"), [("litellm", "LITELLM", "litellm's proxy"), ("portkey", "PORTKEY", "Portkey's gateway")]
)
def test_what_is_not_installed_says_how_to_get_it(
    name: str, place: str, what: str, tmp_path: Path, instant: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateways, place, tmp_path / "nowhere")
    with pytest.raises(ServeError, match=rf"(?s){what} is not installed.*make bench-gateway PEERS=1"):
        gateway(name, instant).__enter__()


def test_a_gateway_that_does_not_start_says_why(
    tmp_path: Path, instant: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "litellm"
    program.write_text("#!/bin/sh\necho no port is left; exit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(gateways, "LITELLM", program)
    with pytest.raises(ServeError, match=r"(?s)litellm did not start: .*no port is left"):
        gateway("litellm", instant).__enter__()


def test_ctrl_c_keeps_the_rows_that_are_there_and_ends_the_gateways(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "loadtests.gateway_peers", f"--out={out}", "--gateways", "upstream", "conch"]
    command += ["--clients", "2", "--rounds", "2", "--warm-up", "0.1", "--seconds", "0.3"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout
        shown = []
        for line in started.stdout:
            shown.append(line)
            if "round 1 of 2: conch" in line:
                started.send_signal(signal.SIGINT)
                break
        said = started.stdout.read()
    assert started.returncode == 128 + signal.SIGINT
    assert str(out) in said
    report = json.loads(out.read_text())
    assert report["cut"]
    assert {each["gateway"] for each in report["rows"]} == {"upstream", "conch"}
    assert not failed(report["rows"])


def test_a_short_run_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    short = ["--clients", "1", "--rounds", "1", "--warm-up", "0.1", "--seconds", "0.2"]
    assert main([f"--out={out}", "--gateways", "upstream", *short]) == 0
    assert "requests/s" in capsys.readouterr().out
    report = json.loads(out.read_text())
    assert [(each["answer"], each["clients"]) for each in report["rows"]] == [("whole", 1), ("stream", 1)]
    assert report["machine"]["cores"]
