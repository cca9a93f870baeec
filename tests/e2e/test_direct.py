"""The engine's stage asked itself, where it fails; its answers test_smollm2.py and test_cancellation.py compare."""

from collections.abc import Iterator
from queue import Queue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient

from build.repository import write_repository
from clients.grpc import Client
from contract import programs
from contract.errors import InternalError, InvalidRequest
from contract.spec import Deployment
from contract.tensors import stage_names
from serving.supervisor import Running, running
from tests.e2e.servers import metric, on_free_ports
from tests.serving.stream import until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("direct")
    spec = on_free_ports(Deployment.model_validate({"name": "faulty", "engine": {"runtime": "synthetic"}}))
    stage = write_repository(root, spec, None) / stage_names(spec.name)[1] / "1" / "model.py"
    stage.write_text(stage.read_text().replace(programs.ENGINE, "tests.e2e.faulty_stage"))
    with running(spec, root) as server:
        yield server


@pytest.fixture(scope="module")
def direct(server: Running) -> Iterator[Client]:
    with Client(f"127.0.0.1:{server.spec.ports.grpc}", server.spec.name, direct=True) as client:
        yield client


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_fault_of_ours_ends_one_answer_and_its_request(server: Running, direct: Client, stream: bool) -> None:
    with pytest.raises(InternalError, match="the server failed on this request"):
        if stream:
            list(direct.stream("abc!", max_tokens=2000))
        else:
            direct.generate("abc!", max_tokens=2000)
    for _ in until(10, "the engine to be free"):
        if not sum(metric(server, "conch_requests_active").values()):
            break
    assert sum(metric(server, "conch_streams_open").values()) == 0
    assert direct.generate("abc", max_tokens=6).text == "abcabc"


def test_it_refuses_as_the_ensemble_does(server: Running, direct: Client) -> None:
    with Client(f"127.0.0.1:{server.spec.ports.grpc}") as ensemble:
        for client in (direct, ensemble):
            with pytest.raises(InvalidRequest) as refused:
                client.generate("abc", max_tokens=-1)
            assert refused.value.field == "max_tokens"
            with pytest.raises(InvalidRequest) as refused:
                client.generate(max_tokens=4)
            assert refused.value.field == "text_input"


def test_who_names_no_outputs_is_answered(server: Running) -> None:
    text = grpcclient.InferInput("text_input", [1, 1], "BYTES")
    text.set_data_from_numpy(np.array([[b"abc"]], dtype=np.object_))
    length = grpcclient.InferInput("max_tokens", [1, 1], "INT32")
    length.set_data_from_numpy(np.array([[6]], dtype=np.int32))
    answers: Queue[tuple[Any, Any]] = Queue()
    with grpcclient.InferenceServerClient(f"127.0.0.1:{server.spec.ports.grpc}") as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer(stage_names(server.spec.name)[1], [text, length])
        result, error = answers.get(timeout=30)
    assert error is None
    assert result.as_numpy("text_output").item() == b"abcabc"
