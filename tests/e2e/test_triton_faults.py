"""What hostile bytes do to the wheel's Triton on loopback, as docs/serving.md lists it; each time it comes back."""

import gzip
import http.client
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import grpc
import psutil
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.supervisor import Running
from tests.e2e.hostile import HANG_S, MIB, PROMPT, Raw, ask, tensor
from tests.e2e.servers import synthetic
from tests.serving.stream import until

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with synthetic(tmp_path_factory.mktemp("faults")) as running:
        yield running


def message(*tensors: Raw, class_count: int = 0) -> service_pb2.ModelInferRequest:
    made = service_pb2.ModelInferRequest(model_name="synthetic")
    for each in tensors:
        made.inputs.add(name=each.name, datatype=each.dtype, shape=each.shape)
        made.raw_input_contents.append(each.data)
    output = made.outputs.add(name="text_output")
    if class_count:
        output.parameters["classification"].int64_param = class_count
    return made


def stream(
    server: Running, *messages: service_pb2.ModelInferRequest, metadata: tuple[tuple[str, str], ...] = ()
) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.spec.ports.grpc}") as channel, suppress(grpc.RpcError):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for _ in stub.ModelStreamInfer(iter(messages), timeout=HANG_S, metadata=metadata):
            pass


def post(server: Running, path: str, body: bytes, **headers: str) -> int:
    """One HTTP request; its status, 0 where none came."""
    connection = http.client.HTTPConnection("127.0.0.1", server.spec.ports.http, timeout=HANG_S)
    try:
        connection.request("POST", path, body, headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def classes_of_text(server: Running) -> None:
    stream(server, message(PROMPT, tensor("max_tokens", 2), class_count=1))


def chunks(server: Running, path: str = "/v2/models/synthetic/generate") -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.spec.ports.http), HANG_S) as client, suppress(OSError):
        client.sendall(head.encode() + b"1\r\n \r\n" * 600_000 + b"0\r\n\r\n")
        client.recv(1)


def nested_lists(server: Running, path: str = "/v2/models/synthetic/generate") -> None:
    post(server, path, b'{"text_input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def stream_of_grpc_errors(server: Running) -> None:
    bad = message(tensor("max_tokens", 2))
    stream(server, *[bad] * 20, metadata=(("triton_grpc_error", "true"),))


@pytest.mark.parametrize(
    ("fault", "signal"),
    [(classes_of_text, "SIGFPE"), (chunks, "SIGSEGV"), (nested_lists, "SIGSEGV"), (stream_of_grpc_errors, "SIGABRT")],
)
def test_open_on_loopback(server: Running, fault: Callable[[Running], None], signal: str) -> None:
    pid, restarts = ready(server), server.restarts
    fault(server)
    for _ in until(HANG_S, "the restart"):
        if server.restarts > restarts:
            break
    assert signal in server.state.last_failure
    assert ready(server) != pid


def test_a_bomb_for_a_stage_is_unpacked(server: Running) -> None:
    pid = ready(server)
    before = psutil.Process(pid).memory_info().rss
    packed = gzip.compress(bytes(1000 * MIB))
    path = "/v2/models/synthetic_preprocess/infer"
    assert post(server, path, packed, **{"Content-Encoding": "gzip"}) == 400
    assert psutil.Process(pid).memory_info().rss - before > 500 * MIB
    assert ready(server) == pid


@pytest.mark.parametrize("fault", [chunks, nested_lists])
@pytest.mark.parametrize("path", ["/v2/repository/index", "/v2/systemsharedmemory/region/x/register", "/v2/logging"])
def test_what_is_closed_is_closed_before_its_body_is_read(
    server: Running, fault: Callable[[Running, str], None], path: str
) -> None:
    pid = ready(server)
    fault(server, path)
    assert ready(server) == pid


@pytest.mark.parametrize("shape", [(1, 2**62), (2**62, 4), (2**32, 2**32), (1, -1)])
def test_sizes_that_overflow_are_refused(server: Running, shape: tuple[int, ...]) -> None:
    pid = ready(server)
    for dtype in ("INT32", "BYTES"):
        for data in (b"", b"\0" * 4):
            name = "input_ids" if dtype == "INT32" else "text_input"
            stream(server, message(Raw(name, dtype, shape, data)))
            said = re.sub(r"\s", "", str(shape))
            body = f'{{"inputs":[{{"name":"{name}","datatype":"{dtype}","shape":[{said[1:-1]}],"data":[]}}]}}'
            assert post(server, "/v2/models/synthetic_preprocess/infer", body.encode()) in (400, 500)
    assert ready(server) == pid


def ready(server: Running) -> int:
    """The server's process id, once it answers."""
    for _ in until(HANG_S, "the server"):
        with suppress(grpc.RpcError):
            if server.pid and ask(server, (PROMPT, tensor("max_tokens", 6))) == "tideti":
                return server.pid
    raise AssertionError
