"""Every fault of the wheel's Triton that bytes are known to trigger: refused or closed, while others' answers go on."""

import gzip
import json
import re
import socket
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

import grpc
import httpx
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2, service_pb2_grpc

from contract import http2
from serving.supervisor import Running
from tests.e2e.hostile import HANG_S, MIB, PROMPT, Raw, ask, tensor
from tests.e2e.servers import metric, synthetic
from tests.serving.stream import Stream, until
from tests.serving.test_filter_frames import BROKEN, SETTINGS

TOKENS = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with synthetic(tmp_path_factory.mktemp("faults"), step_ms=4, max_seq_len=300_000) as running:
        yield running


@pytest.fixture(autouse=True)
def _nobody_is_harmed(server: Running) -> Iterator[None]:
    """While a test does its worst, somebody's answer goes on, and the processes stay what they are."""
    before = server.pid, filter_of(server).pid, server.restarts
    other = Stream(server.spec, TOKENS).first_answer()
    yield
    assert other.end(HANG_S) == "" and other.tokens == TOKENS
    assert ask(server, (PROMPT, tensor("max_tokens", 6))) == "tideti"
    assert (server.pid, filter_of(server).pid, server.restarts) == before


def filter_of(server: Running) -> psutil.Process:
    """The filter's process."""
    for child in psutil.Process(server.supervisor_pid).children():
        with suppress(psutil.Error):
            if "serving.filter" in child.cmdline():
                return child
    raise AssertionError


def message(
    *tensors: Raw, name: str = "synthetic", outputs: tuple[str, ...] = ("text_output",)
) -> service_pb2.ModelInferRequest:
    made = service_pb2.ModelInferRequest(model_name=name)
    for each in tensors:
        made.inputs.add(name=each.name, datatype=each.dtype, shape=each.shape)
        made.raw_input_contents.append(each.data)
    for output in outputs:
        made.outputs.add(name=output)
    return made


def stream(
    server: Running,
    *messages: service_pb2.ModelInferRequest,
    metadata: tuple[tuple[str, str], ...] = (),
    compression: grpc.Compression = grpc.Compression.NoCompression,
) -> tuple[str, str]:
    """One call; its status and what it says, or '' and Triton's own error within."""
    said = ""
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{server.spec.ports.grpc}", options=options) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            for answer in stub.ModelStreamInfer(
                iter(messages), timeout=HANG_S, metadata=metadata, compression=compression
            ):
                said = said or answer.error_message
        except grpc.RpcError as error:
            return error.code().name, error.details()
    return "", said


def unary(server: Running, asked: service_pb2.ModelInferRequest) -> tuple[str, str]:
    with grpc.insecure_channel(f"127.0.0.1:{server.spec.ports.grpc}") as channel:
        try:
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(asked, timeout=HANG_S)
        except grpc.RpcError as error:
            return error.code().name, error.details()
    return "", ""


def post(server: Running, path: str, body: bytes | Mapping[str, object], **headers: str) -> tuple[int, str]:
    """One HTTP request; its status and its error."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    url = f"http://127.0.0.1:{server.spec.ports.http}/v2/models/{path}"
    answer = httpx.post(url, content=content, headers=named, timeout=HANG_S)
    return answer.status_code, answer.text


def raw(server: Running, data: bytes, *, port: str = "http") -> bytes:
    """Bytes to a port; all that comes back, until it is closed."""
    came = b""
    with socket.create_connection(("127.0.0.1", getattr(server.spec.ports, port)), HANG_S) as client, suppress(OSError):
        with suppress(OSError):
            client.sendall(data)
        while chunk := client.recv(65536):
            came += chunk
    return came


@pytest.mark.parametrize("output", ["text_output", "output_ids"])
@pytest.mark.parametrize("where", [stream, unary])
def test_classes_over_grpc(server: Running, output: str, where: object) -> None:
    asked = message(PROMPT, tensor("max_tokens", 2), outputs=(output,))
    asked.outputs[0].parameters["classification"].int64_param = 1
    code, said = stream(server, asked) if where is stream else unary(server, asked)
    assert code == "INVALID_ARGUMENT"
    assert f"outputs.{output}.parameters.classification" in said


@pytest.mark.parametrize("of", ["inputs", "outputs"])
def test_shared_memory_over_grpc(server: Running, of: str) -> None:
    asked = message(PROMPT)
    getattr(asked, of)[0].parameters["shared_memory_region"].string_param = "x"
    code, said = stream(server, asked)
    assert code == "INVALID_ARGUMENT" and "shared_memory_region: shared memory is closed" in said


@pytest.mark.parametrize(
    ("other", "version"), [("nope", ""), ("synthetic", "7"), ("synthetic_preprocess", ""), ("tensorrt_llm", "1")]
)
def test_models_of_both_kinds_in_one_call(server: Running, other: str, version: str) -> None:
    """Triton 2.51 writes a response of the other while one is being written, and aborts."""
    streamed = message(PROMPT, tensor("max_tokens", 200), tensor("stream", True))
    another = message(PROMPT, tensor("max_tokens", 2), name=other)
    another.model_version = version
    for _ in range(3):
        code, said = stream(server, streamed, *[another] * 60)
        assert code == "INVALID_ARGUMENT" and f"model_name: {other} and what this call asked before" in said
    assert stream(server, *[streamed] * 3) == ("", "")


def test_grpc_errors_on_a_stream(server: Running) -> None:
    bad = message(tensor("max_tokens", 2))
    code, said = stream(server, *[bad] * 20, metadata=(("triton_grpc_error", "true"),))
    assert code == "INVALID_ARGUMENT" and "triton_grpc_error" in said


def test_an_output_twice(server: Running) -> None:
    code, said = stream(server, message(PROMPT, outputs=("text_output", "text_output")))
    assert code == "INVALID_ARGUMENT" and "text_output: the output is asked for twice" in said


def test_messages_that_are_too_large_packed_or_not(server: Running) -> None:
    asked = message(tensor("text_input", "a" * 20 * MIB))
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip, grpc.Compression.Deflate):
        code, said = stream(server, asked, compression=compression)
        assert code == "INVALID_ARGUMENT" and "8 MiB" in said


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_packed_message_is_answered(server: Running, compression: grpc.Compression) -> None:
    asked = message(tensor("text_input", "tide" * 100), tensor("max_tokens", 2))
    assert stream(server, asked, compression=compression) == ("", "")


SHAPES = [(1, 2**62), (2**62, 4), (2**32, 2**32), (1, -1), (2**62 + 1, 1), (2**32 + 1, 1), (-(2**62), 4), (-1, -1)]


@pytest.mark.parametrize("shape", [*SHAPES, (1,) * 1000])
@pytest.mark.parametrize("dtype", ["INT32", "BYTES"])
def test_sizes_that_overflow(server: Running, shape: tuple[int, ...], dtype: str) -> None:
    wrong = replace(tensor("input_ids", 1) if dtype == "INT32" else PROMPT, shape=shape)
    assert wrong.name in stream(server, message(wrong))[1]
    for name in ("synthetic_preprocess", "tensorrt_llm_bls"):
        assert wrong.name in unary(server, message(wrong, name=name, outputs=()))[1] or name != "synthetic_preprocess"
    listed = [size % 2**64 for size in shape]
    tensors = [{"name": wrong.name, "datatype": dtype, "shape": listed, "data": [1 if dtype == "INT32" else "a"]}]
    assert post(server, "synthetic_preprocess/infer", {"inputs": tensors})[0] == 400


INFER: dict[str, tuple[dict[str, object], str]] = {
    "classes": (
        {"outputs": [{"name": "x", "parameters": {"classification": 1}}]},
        "outputs.x.parameters.classification",
    ),
    "shared memory": (
        {"inputs": [{"name": "x", "parameters": {"shared_memory_region": "y"}}]},
        "inputs.x.parameters.shared_memory_region",
    ),
    "inputs that are none": ({"inputs": [5]}, "inputs"),
    "inputs that are an object": ({"inputs": {}}, "inputs"),
    "parameters that are none": ({"inputs": [], "parameters": [1]}, "parameters"),
    "a shape of text": ({"inputs": [{"name": "x", "shape": ["1"]}]}, "x"),
    "a shape of halves": ({"inputs": [{"name": "x", "shape": [1.5]}]}, "x"),
    "outputs twice": ({"inputs": [], "outputs": [{"name": "x"}, {"name": "x"}]}, "x"),
}


@pytest.mark.parametrize("name", INFER)
def test_tensors_over_http(server: Running, name: str) -> None:
    asked, field = INFER[name]
    status, said = post(server, "synthetic_preprocess/infer", asked)
    assert status == 400 and field in json.loads(said)["error"]


JSON = {
    "100,000 lists": (b'{"text_input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested"),
    "200 objects": (b'{"a":' * 200 + b"1" + b"}" * 200, "nested"),
    "a list": (b"[]", "no object"),
    "a key twice": (b'{"text_input": "a", "text_input": "b"}', "text_input: given twice"),
    "no UTF-8": (b'{"text_input": "\xff"}', "UTF-8"),
    "no JSON": (b'{"text_input"', "parse"),
    "a number of 5000 digits": (b'{"text_input": "a", "seed": ' + b"1" * 5000 + b"}", "parse"),
}


@pytest.mark.parametrize("path", ["synthetic/generate", "synthetic/generate_stream", "synthetic_preprocess/infer"])
@pytest.mark.parametrize("name", JSON)
def test_json(server: Running, name: str, path: str) -> None:
    body, said = JSON[name]
    status, text = post(server, path, body)
    assert status == 400 and said in json.loads(text)["error"]


PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize("encoding", PACKERS)
def test_packed_bodies(server: Running, encoding: str) -> None:
    before = psutil.Process(server.pid).memory_info().rss
    bomb = PACKERS[encoding](bytes(300 * MIB))
    for path in ("synthetic_preprocess/infer", "synthetic/generate"):
        status, said = post(server, path, bomb, Content_Encoding=encoding)
        assert status == 400 and "8 MiB unpacked" in said
        status, said = post(server, path, bomb[:-5], Content_Encoding=encoding)
        assert status == 400
    assert psutil.Process(server.pid).memory_info().rss - before < 50 * MIB
    good = PACKERS[encoding](b'{"text_input": "tide", "max_tokens": 4}')
    status, said = post(server, "synthetic/generate", good, Content_Encoding=encoding)
    assert status == 200 and json.loads(said)["text_output"] == "tide"
    for rest in (good + b"x", good[:9]):
        assert post(server, "synthetic/generate", rest, Content_Encoding=encoding)[0] == 400
    assert post(server, "synthetic/generate", good, Content_Encoding="br")[0] == 400


@pytest.mark.parametrize("size", ["9" * 30, "-1", "x", "2147483648", "100", ""])
def test_sizes_of_the_json_part(server: Running, size: str) -> None:
    body = {"inputs": [{"name": "max_tokens", "datatype": "INT32", "shape": [1, 1], "data": [1]}]}
    status, said = post(server, "synthetic_preprocess/infer", body, Inference_Header_Content_Length=size)
    assert status == 400 and ("inference-header" in said or not size)


def test_sizes_of_the_json_part_twice(server: Running) -> None:
    head = "POST /v2/models/synthetic_preprocess/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
    twice = "Inference-Header-Content-Length: 2\r\nInference-Header-Content-Length: 1\r\nConnection: close\r\n\r\n{}"
    assert b"given twice" in raw(server, (head + twice).encode())


def test_weights_of_encodings(server: Running) -> None:
    good = {"text_input": "tide", "max_tokens": 4}
    for accepted in ("gzip;q=1e999", "gzip;q=x", ",,;q=", "deflate"):
        status, said = post(server, "synthetic/generate", good, Accept_Encoding=accepted)
        assert status == 200 and json.loads(said)["text_output"] == "tide"


HEAD = b"POST /v2/models/synthetic/generate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BYTES = {
    "600,000 chunks": (CHUNKED + b"1\r\n \r\n" * 600_000 + b"0\r\n\r\n", b"400"),
    "a trailer without end": (CHUNKED + b"0\r\nx: " + b"y" * MIB, b"431"),
    "a chunk's extension without end": (CHUNKED + b"1;" + b"y" * MIB, b"431"),
    "a header without end": (HEAD + b"x: " + b"y" * MIB, b"431"),
    "a thousand headers": (HEAD + b"x: y\r\n" * 1000 + b"\r\n", b"431"),
    "a path without end": (b"GET /" + b"x" * MIB, b"431"),
    "a body too large": (HEAD + b"Content-Length: 999999999\r\n\r\n", b"413"),
    "chunks too large": (CHUNKED + b"100000\r\n" + bytes(MIB) + b"\r\n" + b"900000\r\n" + bytes(9 * MIB), b"413"),
    "a length beyond numbers": (HEAD + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n", b"400"),
    "two lengths": (HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", b"400"),
    "a length and chunks": (HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
    "another protocol": (b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", b"404"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)), b"400"),
    "HTTP/2": (http2.PREFACE + SETTINGS, b"400"),
}


@pytest.mark.parametrize("name", BYTES)
def test_bytes_to_the_http_port(server: Running, name: str) -> None:
    data, status = BYTES[name]
    assert raw(server, data).split(b" ")[1] == status


@pytest.mark.parametrize("name", BROKEN)
def test_frames_to_the_grpc_port(server: Running, name: str) -> None:
    raw(server, http2.PREFACE + SETTINGS + BROKEN[name], port="grpc")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(min_size=1, max_size=2000), st.sampled_from([b"", http2.PREFACE, http2.PREFACE + SETTINGS, HEAD, CHUNKED])
)
def test_garbage_to_both_ports(server: Running, garbage: bytes, before: bytes) -> None:
    for port in (server.spec.ports.http, server.spec.ports.grpc):
        with socket.create_connection(("127.0.0.1", port), HANG_S) as client, suppress(OSError):
            client.sendall(before + garbage)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass


def test_requests_one_behind_another_are_answered_in_their_order(server: Running) -> None:
    def request(tokens: int, last: str = "") -> bytes:
        body = json.dumps({"text_input": "tide", "max_tokens": tokens})
        head = f"POST /v2/models/synthetic/generate HTTP/1.1\r\nHost: x\r\n{last}Content-Length: {len(body)}\r\n\r\n"
        return (head + body).encode()

    came = raw(
        server,
        request(4)
        + request(2)
        + b"GET /v2/health/live HTTP/1.1\r\n\r\n"
        + request(-1)
        + request(3, "Connection: close\r\n"),
    )
    texts = re.findall(rb'"text_output":"(\w+)"|HTTP/1.1 (\d+)', came)
    assert texts == [
        (b"", b"200"),
        (b"tide", b""),
        (b"", b"200"),
        (b"ti", b""),
        (b"", b"200"),
        (b"", b"400"),
        (b"", b"200"),
        (b"tid", b""),
    ]


def test_a_connection_is_kept_behind_a_refusal(server: Running) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{server.spec.ports.http}/v2/models", timeout=HANG_S) as client:
        for _ in range(3):
            assert client.post("/synthetic/generate", content=b"[]").status_code == 400
            good = client.post("/synthetic/generate", json={"text_input": "tide", "max_tokens": 4})
            assert good.json()["text_output"] == "tide"


def test_a_call_refused_beside_others_on_one_connection(server: Running) -> None:
    bad = message(PROMPT, tensor("max_tokens", 2))
    bad.outputs[0].parameters["classification"].int64_param = 1
    long = message(PROMPT, tensor("max_tokens", 100))
    with grpc.insecure_channel(f"127.0.0.1:{server.spec.ports.grpc}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        beside = stub.ModelStreamInfer(iter([long]), timeout=HANG_S)
        first = next(beside)
        for _ in range(50):
            with pytest.raises(grpc.RpcError, match="classification"):
                list(stub.ModelStreamInfer(iter([message(PROMPT, tensor("max_tokens", 1)), bad]), timeout=HANG_S))
        text = b"".join(each.infer_response.raw_output_contents[0][4:] for each in (first, *beside))
    assert text == b"tide" * 25


def test_what_is_closed_is_closed_before_its_body_is_read(server: Running) -> None:
    for path in ("repository/index", "systemsharedmemory/region/x/register", "logging"):
        for data, _ in (BYTES["600,000 chunks"], BYTES["chunks too large"]):
            raw(server, data.replace(b"models/synthetic/generate", path.encode()))


def test_the_sockets_behind_the_filter_are_their_users_alone(server: Running) -> None:
    doors = server.folder / "doors"
    assert doors.stat().st_mode & 0o077 == 0
    listening = {
        each.laddr.port for each in psutil.Process(server.pid).net_connections("tcp") if each.status == "LISTEN"
    }
    assert listening == {server.spec.ports.metrics}


@pytest.mark.long
@pytest.mark.parametrize("name", ["synthetic_preprocess", "tensorrt_llm_bls"])
def test_unary_inferences_left_as_they_end(server: Running, name: str) -> None:
    """Triton's two threads release such a call twice: after some thousands of them, SIGSEGV."""
    asked = message(PROMPT, tensor("max_tokens", 1), name=name, outputs=())
    with grpc.insecure_channel(f"127.0.0.1:{server.spec.ports.grpc}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for turn in range(1500):
            calls = [stub.ModelInfer.future(asked, timeout=(turn % 50 + 1) / 10_000) for _ in range(4)]
            calls += [stub.ModelInfer.future(asked, timeout=HANG_S) for _ in range(4)]
            with suppress(grpc.RpcError, grpc.FutureCancelledError):
                calls[turn % 4].result()
            for call in calls:
                call.cancel()
    for _ in until(HANG_S, "the engine to stop"):
        if not sum(metric(server, "conch_streams_open").values()):
            break


@pytest.mark.long
def test_thousands_of_unary_inferences(server: Running) -> None:
    """Triton dies where a model asks it whether a request that has had its answer was cancelled."""
    asked = message(PROMPT, tensor("max_tokens", 1), name="tensorrt_llm_bls")
    with grpc.insecure_channel(f"127.0.0.1:{server.spec.ports.grpc}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for _ in range(500):
            for call in [stub.ModelInfer.future(asked, timeout=HANG_S) for _ in range(16)]:
                assert call.result().outputs
