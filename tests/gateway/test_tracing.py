"""Traces of the real gateway before a real server, as a collector gets them: all that a request lived through."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from clients.request import Timings
from contract.address import free_ports
from contract.errors import ServeError, SpecError
from contract.spec import load_spec
from contract.tracing import Tracing
from gateway.tracing.export import processors
from gateway.tracing.spans import phases
from loadtests.traces.read import read
from serving.supervisor import Running
from tests.e2e.servers import CODE
from tests.gateway.collector import KINDS, Collector, Tree, collecting
from tests.gateway.conftest import CHAT, MESSAGES, RESPONSES, TEXT, active, gateway, until, user

SECRET = "foam under the moon"
BODY: dict[str, Any] = {"model": "synthetic", "messages": user(SECRET), "max_tokens": 6, "temperature": 0.5}
PARENT, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PHASES = ["send", "preprocess", "queue", "prefill", "decode", "deliver"]
OURS = ["receive", "admit", "chat synthetic", "finish"]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def traced(
    behind: Running, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    folder = tmp_path_factory.mktemp("traced")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-secret=sesame")
        with gateway(behind, folder, tracing={"endpoint": collector.url}) as running:
            yield running


@pytest.fixture(scope="module")
def http(traced: tuple[subprocess.Popen[bytes], httpx.Client]) -> httpx.Client:
    return traced[1]


def traceparent(*, sampled: bool) -> dict[str, str]:
    return {"traceparent": f"00-{PARENT}-{CALLER}-{'01' if sampled else '00'}", "tracestate": "shop=7"}


def asked(http: httpx.Client, path: str = CHAT, /, headers: dict[str, str] | None = None, **more: object) -> str:
    """The id of a request that was answered whole."""
    answer = http.post(path, json=BODY | more, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-request-id"]


def add_up(tree: Tree) -> None:
    """Its parts begin where it begins, each where the one before ends, and end where it ends."""
    if not tree.parts:
        return
    assert tree.parts[0].span.start_time_unix_nano == tree.span.start_time_unix_nano
    assert tree.parts[-1].span.end_time_unix_nano == tree.span.end_time_unix_nano
    for one, other in pairwise(tree.parts):
        assert one.span.end_time_unix_nano == other.span.start_time_unix_nano
        assert one.span.start_time_unix_nano <= one.span.end_time_unix_nano
    for part in tree.parts:
        assert part.span.trace_id == tree.span.trace_id
        add_up(part)


def test_a_streamed_chat(http: httpx.Client, collector: Collector) -> None:
    tree = collector.whole(asked(http, stream=True, seed=-1, top_p=0.9, stop=["never said"]))
    assert (tree.name, tree.span.kind, tree.span.parent_span_id) == (f"POST {CHAT}", KINDS.SPAN_KIND_SERVER, b"")
    assert (
        tree.attributes.items()
        >= {
            "http.request.method": "POST",
            "http.route": CHAT,
            "http.response.status_code": 200,
            "url.path": CHAT,
            "url.scheme": "http",
            "network.protocol.version": "1.1",
        }.items()
    )
    assert tree.names() == OURS
    chat = tree.part("chat synthetic")
    assert chat.names() == PHASES
    add_up(tree)
    assert chat.span.kind == KINDS.SPAN_KIND_CLIENT
    told = chat.attributes
    assert told.pop("gen_ai.response.time_to_first_chunk") > 0
    assert told == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "conch",
        "gen_ai.request.model": "synthetic",
        "gen_ai.request.max_tokens": 6,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": pytest.approx(0.9),
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "synthetic",
        "gen_ai.response.finish_reasons": ["length"],
        "gen_ai.usage.input_tokens": told["gen_ai.usage.input_tokens"],
        "gen_ai.usage.output_tokens": 6,
        "gen_ai.usage.cache_read.input_tokens": 0,
    }
    assert not tree.failed and not chat.failed


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        (CHAT, BODY, "chat synthetic"),
        (TEXT, {"model": "synthetic", "prompt": SECRET, "max_tokens": 3}, "text_completion synthetic"),
        (RESPONSES, {"model": "synthetic", "input": SECRET, "max_output_tokens": 16}, "chat synthetic"),
        (MESSAGES, {"model": "synthetic", "messages": user(SECRET), "max_tokens": 3}, "chat synthetic"),
    ],
)
def test_every_door_that_generates(
    http: httpx.Client, collector: Collector, path: str, body: dict[str, Any], name: str
) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    tree = collector.whole(answer.headers["x-request-id"])
    assert tree.names() == ["receive", "admit", name, "finish"]
    assert tree.part(name).names() == PHASES
    add_up(tree)


def test_texts_and_secrets_stay_out(http: httpx.Client, collector: Collector) -> None:
    collector.whole(asked(http, stream=True, stop=["no such " + SECRET]))
    assert SECRET.encode() not in b"".join(span.SerializeToString() for span in collector.spans)
    assert all(headers["x-secret"] == "sesame" for headers in collector.headers)
    assert b"sesame" not in b"".join(span.SerializeToString() for span in collector.spans)


def test_texts_are_told_where_that_is_wanted(behind: Running, tmp_path: Path) -> None:
    wanted = tmp_path / "headers"
    wanted.write_text("Authorization: Bearer sesame\n\nX-Scope-OrgID:sea\n")
    told = {"headers": str(wanted), "content": True}
    with collecting() as own, gateway(behind, tmp_path, tracing={"endpoint": own.url} | told) as (_, http):
        call = {"id": "c1", "type": "function", "function": {"name": "tide", "arguments": "{}"}}
        messages = [
            *user(SECRET),
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "high"},
        ]
        chat = own.whole(asked(http, messages=messages, stop=["never said"])).part("chat synthetic").attributes
        assert json.loads(chat["gen_ai.input.messages"]) == [
            {"role": "user", "parts": [{"type": "text", "content": SECRET}]},
            {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "tide", "arguments": "{}"}]},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "high"}]},
        ]
        (said,) = json.loads(chat["gen_ai.output.messages"])
        assert said["role"] == "assistant" and said["finish_reason"] == "length" and said["parts"][0]["content"]
        assert chat["gen_ai.request.stop_sequences"] == ["never said"]
        prompt = http.post(TEXT, json={"model": "synthetic", "prompt": [1, 2, 3], "max_tokens": 2})
        text = own.whole(prompt.headers["x-request-id"]).part("text_completion synthetic").attributes
        assert json.loads(text["gen_ai.input.messages"])[0]["parts"] == [{"type": "text", "content": "[1, 2, 3]"}]
    assert {(each["authorization"], each["x-scope-orgid"]) for each in own.headers} == {("Bearer sesame", "sea")}


@pytest.mark.parametrize(
    ("bytes_there", "told"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff", "cannot be read: it is no UTF-8"),
        (b"a: b\nsesame\n", "header 2 is no NAME: VALUE"),
        (b"authorization: Bearer sesame\x07", "header 1 is no NAME: VALUE"),
    ],
)
def test_headers_that_are_none(tmp_path: Path, bytes_there: bytes | None, told: str) -> None:
    file = tmp_path / "headers"
    if bytes_there is not None:
        file.write_bytes(bytes_there)
    with pytest.raises(ServeError) as refused:
        list(processors(Tracing(endpoint="http://127.0.0.1:9", headers=file)))
    assert str(refused.value).startswith(f"tracing.headers: {file}") and told in str(refused.value)
    assert "sesame" not in str(refused.value)


def test_a_clients_own_trace_goes_on(http: httpx.Client, collector: Collector) -> None:
    tree = collector.whole(asked(http, headers=traceparent(sampled=True)))
    assert (tree.span.trace_id.hex(), tree.span.parent_span_id.hex()) == (PARENT, CALLER)
    assert tree.span.trace_state == "shop=7"
    assert tree.part("chat synthetic").span.trace_id.hex() == PARENT


@pytest.mark.parametrize("given", ["", "00-nonsense", f"00-{'0' * 32}-{CALLER}-01", f"ff-{PARENT}-{CALLER}-01"])
def test_what_is_no_traceparent_is_none(http: httpx.Client, collector: Collector, given: str) -> None:
    tree = collector.whole(asked(http, headers={"traceparent": given}))
    assert tree.span.parent_span_id == b"" and tree.span.trace_id.hex() not in (PARENT, "0" * 32)


def test_who_is_not_to_be_traced_is_not(http: httpx.Client, collector: Collector) -> None:
    unseen = asked(http, headers=traceparent(sampled=False))
    collector.whole(asked(http))  # came later
    assert all(tree.attributes.get("http.response.header.x-request-id") != [unseen] for tree in collector.trees())


def test_a_share_of_none_is_none_but_for_who_asks(behind: Running, tmp_path: Path) -> None:
    with collecting() as own, gateway(behind, tmp_path, tracing={"endpoint": own.url, "sample": 0}) as (_, http):
        for _ in range(20):
            asked(http)
        wanted = asked(http, headers=traceparent(sampled=True))
        own.whole(wanted)
        assert len(own.trees()) == 1
    lines = [line for line in (tmp_path / "gateway.log").read_text().splitlines() if f"POST {CHAT}" in line]
    assert [f"trace {PARENT} " in line for line in lines] == [False] * 20 + [True]


def test_several_answers_are_beside_each_other(http: httpx.Client, collector: Collector) -> None:
    tree = collector.whole(asked(http, n=3, seed=1))
    answers = [part for part in tree.parts if part.name == "chat synthetic"]
    assert [answer.names() for answer in answers] == [PHASES] * 3
    assert len({answer.span.start_time_unix_nano for answer in answers}) == 1
    assert [answer.attributes["gen_ai.request.seed"] for answer in answers] == [1, 2, 3]
    for answer in answers:
        add_up(answer)


def test_refusals_end_where_they_happen(http: httpx.Client, collector: Collector) -> None:
    unread = http.post(CHAT, json=BODY | {"temperature": 9})
    tree = collector.whole(unread.headers["x-request-id"])
    assert (tree.attributes["http.response.status_code"], tree.names(), tree.failed) == (400, [], False)
    long = http.post(CHAT, json=BODY | {"max_tokens": 10**6})
    tree = collector.whole(long.headers["x-request-id"])
    assert tree.names() == OURS and not tree.failed
    chat = tree.part("chat synthetic")
    assert chat.failed and chat.attributes["error.type"] == "context_length_exceeded" and not chat.parts


def test_who_finds_no_room(behind: Running, collector: Collector, tmp_path: Path) -> None:
    tight = {"max_requests": 1, "max_queue_size": 0}
    with gateway(behind, tmp_path, tracing={"endpoint": collector.url}, **tight) as (_, http):
        with http.stream("POST", TEXT, json={"model": "synthetic", "prompt": "x", "max_tokens": 4000, "stream": True}):
            refused = http.post(CHAT, json=BODY)
            assert refused.status_code == 429
        tree = collector.whole(refused.headers["x-request-id"])
    assert tree.names() == ["receive", "admit"] and not tree.failed
    assert tree.part("admit").attributes["error.type"] == "rate_limit_exceeded"
    add_up(tree)


@pytest.mark.parametrize("stream", [True, False], ids=["in the middle", "before it began"])
def test_a_deadline_that_passes(http: httpx.Client, collector: Collector, stream: bool) -> None:
    late = BODY | {"max_tokens": 4000, "stream": stream}
    answer = http.post(CHAT, json=late, headers={"x-request-timeout": "0.5"})
    assert answer.status_code == (200 if stream else 408)
    tree = collector.whole(answer.headers["x-request-id"])
    assert tree.names() == OURS and tree.failed is stream
    assert tree.attributes.get("error.type") == ("deadline_exceeded" if stream else None)
    chat = tree.part("chat synthetic")
    assert chat.failed and chat.attributes["error.type"] == "deadline_exceeded"
    add_up(tree)


def test_a_server_that_is_not_there(behind: Running, collector: Collector, tmp_path: Path) -> None:
    nobody = tuple(f"127.0.0.1:{port}" for port in free_ports(1))
    with gateway(behind, tmp_path, tracing={"endpoint": collector.url}, replicas=nobody) as (_, http):
        answer = http.post(CHAT, json=BODY)
        assert answer.status_code == 503
        tree = collector.whole(answer.headers["x-request-id"])
    assert tree.failed and tree.attributes["error.type"] == "service_unavailable"
    assert tree.part("chat synthetic").attributes["error.type"] == "service_unavailable"


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_client_that_leaves_ends_its_spans(
    http: httpx.Client, behind: Running, collector: Collector, stream: bool
) -> None:
    until(lambda: active(behind) == 0)
    body = json.dumps({"model": "synthetic", "prompt": "x", "max_tokens": 4000, "stream": stream}).encode()
    name = f"left-{stream}"
    head = f"POST {TEXT} HTTP/1.1\r\nhost: x\r\nx-request-id: {name}\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection((http.base_url.host, http.base_url.port or 80)) as connection:
        connection.sendall(head.encode() + body)
        until(lambda: active(behind) == 1)
    tree = collector.whole(name)
    assert tree.attributes["error.type"] == "client_left" and not tree.failed
    answer = tree.part("text_completion synthetic")
    assert answer.failed and answer.attributes["error.type"] == "cancelled" and not answer.parts
    add_up(tree)


def test_probes_have_no_traces(http: httpx.Client, collector: Collector) -> None:
    for path in ("/health/live", "/health/ready", "/metrics"):
        assert http.get(path).status_code == 200
    models = http.get("/v1/models")
    tree = collector.whole(models.headers["x-request-id"])
    assert (tree.name, tree.names()) == ("GET /v1/models", [])
    nowhere = http.get("/nowhere")
    assert collector.whole(nowhere.headers["x-request-id"]).name == "GET"
    assert not [tree for tree in collector.trees() if "health" in tree.name or "metrics" in tree.name]


def test_each_process_exports_its_own(behind: Running, tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    with ExitStack() as stack:
        own = stack.enter_context(collecting())
        tracing = {"endpoint": own.url, "file": str(file)}
        desk, http = stack.enter_context(gateway(behind, tmp_path, tracing=tracing, processes=2))
        workers = {each.pid for each in psutil.Process(desk.pid).children()}

        def both() -> bool:
            with httpx.Client(base_url=http.base_url, timeout=30) as new:  # whoever accepts it
                own.whole(asked(new))
            return len({resource["process.pid"] for resource in own.resources}) == 2

        until(both, 30)
        assert {resource["process.pid"] for resource in own.resources} == workers
        assert {resource["service.name"] for resource in own.resources} == {"conch-gateway"}
        until(lambda: len(read(file)) == len(own.trees()))


def test_a_collector_that_is_away_hurts_nobody(behind: Running, tmp_path: Path) -> None:
    """The log says once that it is, and once that it is back; what ends the gateway does not wait for it."""
    (port,) = free_ports(1)
    log = tmp_path / "gateway.log"
    with gateway(behind, tmp_path, tracing={"endpoint": f"http://127.0.0.1:{port}"}) as (process, http):
        for _ in range(3):
            asked(http, stream=True)
            until(lambda: "traces do not reach" in log.read_text(), 30)
        with collecting(port) as late:
            collected = asked(http)
            late.whole(collected)
            until(lambda: f"traces reach http://127.0.0.1:{port}/v1/traces again" in log.read_text())
        asked(http)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    said = log.read_text()
    assert len(re.findall("traces do not reach", said)) == 1 and "Traceback" not in said
    assert f"http://127.0.0.1:{port}/v1/traces and are lost until they do: " in said


def test_what_is_left_is_exported_at_the_end(behind: Running, tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    with gateway(behind, tmp_path, tracing={"file": str(file)}) as (process, http):
        last = asked(http)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert read(file)[-1].attributes["http.response.header.x-request-id"] == [last]
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_is_told(behind: Running, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"name: synthetic\nengine: {{runtime: synthetic}}\ntracing: {{file: {tmp_path}/no/traces}}\n")
    run = subprocess.run(
        (sys.executable, "-m", "gateway", str(config)), cwd=CODE, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 1
    assert run.stderr.startswith(f"error: tracing.file: {tmp_path}/no/traces cannot be written: No such file")


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:4318", "http://me:secret@host:4318", "http://host/v1?key=x", "ftp://host"]
)
def test_an_endpoint_that_is_none(tmp_path: Path, endpoint: str) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"name: synthetic\nengine: {{runtime: synthetic}}\ntracing: {{endpoint: '{endpoint}'}}\n")
    with pytest.raises(SpecError, match=r"c\.yaml:3: tracing\.endpoint: must be an address such as .*OTLP_HEADERS"):
        load_spec(config)


def test_off_loads_nothing() -> None:
    told = "import sys, gateway.__main__; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    run = subprocess.run((sys.executable, "-c", told), cwd=CODE, capture_output=True, text=True, timeout=60)
    assert run.stdout == "[]\n", run.stderr


def at(*moments: int) -> Timings:
    return Timings(*moments)


@pytest.mark.parametrize(
    ("timings", "ends"),
    [
        (at(110, 120, 130, 140, 150), [110, 120, 130, 140, 150, 200]),
        (at(110, 120, 0, 140, 150), [110, 120, 140, 150, 200]),  # an engine that does not tell when it took it up
        (at(110, 120, 0, 0, 0), [110, 120, 200]),  # an answer without a token
        (at(5110, 5120, 5130, 5140, 5150), [100, 110, 120, 130, 140, 200]),  # another machine's clock
        (at(90, 120, 130, 140, 150), [100, 130, 140, 150, 160, 200]),
        (at(5000, 5010, 5020, 5030, 5200), [100, 110, 120, 130, 200, 200]),  # and one that runs fast
        (at(110, 120, 5000, 140, 150), [110, 120, 200, 200, 200, 200]),  # an engine that errs
    ],
)
def test_phases_follow_each_other(timings: Timings, ends: list[int]) -> None:
    found = list(phases(timings, 1100, 1200, 1000))
    assert [span.ended_ns for span in found] == [1000 + end for end in ends]
    assert [span.begun_ns for span in found] == [1100, *(span.ended_ns for span in found[:-1])]
