"""Hostile requests through a real Triton: each gets a clear error that names the input; the next good one succeeds."""

import json
import time
from collections.abc import Iterator

import httpx
import pytest
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from contract.errors import InvalidRequest, from_wire
from contract.stage import ADMIN, CANARY, admin_key, canary_id
from contract.state import LOG
from serving.supervisor import Running
from serving.triton import ADMIN_HEADER, ADMIN_METADATA
from tests.e2e.hostile import HANG_S, HOSTILE, HOSTILE_HTTP, MIB, PROMPT, REFUSED_BY_TRITON, Hostile, ask, post, tensor
from tests.e2e.servers import metric, synthetic
from tests.serving.stream import until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with synthetic(tmp_path_factory.mktemp("hostile")) as running:
        pid = running.pid
        yield running
        assert running.pid == pid, "a request restarted the server"
        for _ in until(HANG_S, "every stage to forget every request"):
            if sum(metric(running, "conch_streams_open").values()) == 0:
                break


def good_request_succeeds(server: Running) -> None:
    assert ask(server, (PROMPT, tensor("max_tokens", 6))) == "tideti"


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=list(HOSTILE))
def test_refused_by_name(server: Running, hostile: Hostile) -> None:
    error = ask(server, hostile.tensors)
    assert isinstance(error, InvalidRequest), error
    assert error.field == hostile.field, error
    assert hostile.said in str(error)
    good_request_succeeds(server)


@pytest.mark.parametrize("endpoint", ["generate", "generate_stream"])
@pytest.mark.parametrize("body", HOSTILE_HTTP, ids=lambda body: body[:40])
def test_refused_by_name_over_http(server: Running, body: str, endpoint: str) -> None:
    status, said = post(server, endpoint, body)
    assert status == 400
    error = from_wire(json.loads(said.removeprefix("data: "))["error"])
    assert isinstance(error, InvalidRequest), error
    assert error.field == HOSTILE_HTTP[body]
    good_request_succeeds(server)


@pytest.mark.parametrize("endpoint", ["generate", "generate_stream"])
@pytest.mark.parametrize("body", REFUSED_BY_TRITON)
def test_refused_by_tritons_front_end(server: Running, body: str, endpoint: str) -> None:
    status, said = post(server, endpoint, body)
    assert status >= 400
    assert isinstance(from_wire(json.loads(said.removeprefix("data: "))["error"]), InvalidRequest)
    good_request_succeeds(server)


def test_parameters_that_ask_for_nothing_do_no_harm(server: Running) -> None:
    body = {"text_input": "tide", "max_tokens": 6, "id": "7", "model": "ensemble", "accumulate_tokens": True}
    nothing = {"timeout": 10_000_000, "priority": 0, "sequence_id": 0, "parameters": {"temperature": 0.0}}
    status, said = post(server, "generate", json.dumps(body | nothing))
    assert status == 200, said
    assert json.loads(said)["text_output"] == "tideti"


def test_an_unknown_stop_string_is_no_error(server: Running) -> None:
    stops = tensor("stop_words", "never said", "", "\0", "\U0001fae8", "a" * 2**20)
    assert ask(server, (PROMPT, tensor("max_tokens", 6), stops)) == "tideti"


@pytest.mark.parametrize("request_id", ["a\nb", "\x1b[2J", "a" * MIB], ids=["newline", "escape", "MiB"])
def test_an_id_that_could_forge_a_log_is_refused(server: Running, request_id: str) -> None:
    error = ask(server, (PROMPT, tensor("max_tokens", 1)), request_id=request_id)
    assert isinstance(error, InvalidRequest), error
    assert error.field == "id"
    assert ask(server, (PROMPT, tensor("max_tokens", 6)), request_id="Ölwechsel 7") == "tideti"


def test_the_canarys_id_is_a_secret_of_the_run(server: Running) -> None:
    secret = canary_id(server.folder)
    assert len(secret) > 32
    assert (server.folder / CANARY).stat().st_mode & 0o077 == 0

    def counted() -> float:
        return sum(metric(server, "conch_requests_total").values())

    for _ in until(HANG_S, "the counts of the tests before"):
        before = counted()
        time.sleep(2.5)  # the metrics of a stage come each second
        if counted() == before:
            break
    for request_id, more in (("conch-canary", 1), (secret + "x", 1), (secret, 0)):
        assert ask(server, (PROMPT, tensor("max_tokens", 1)), request_id=request_id) == "t"
        before += more
        for _ in until(HANG_S, "the count"):
            if counted() >= before:
                break
    assert counted() == before


_CLOSED = {
    "v2/systemsharedmemory/status": "GET",
    "v2/systemsharedmemory/region/x/register": "POST",
    "v2/cudasharedmemory/status": "GET",
    "v2/repository/index": "POST",
    "v2/repository/models/synthetic_engine/unload": "POST",
    "v2/trace/setting": "GET",
    "v2/models/synthetic/trace/setting": "POST",
    "v2/logging": "POST",
}


@pytest.mark.parametrize("path", _CLOSED)
def test_what_no_client_needs_is_closed(server: Running, path: str) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{server.spec.ports.http}", timeout=HANG_S) as client:
        for key in ({}, {ADMIN_HEADER: ""}, {ADMIN_HEADER: "admin"}):
            answer = client.request(_CLOSED[path], path, headers=key, content=b"{}")
            assert answer.status_code == 403
            assert "restricted" in answer.text


def test_what_no_client_needs_is_closed_over_grpc_too(server: Running) -> None:
    with grpcclient.InferenceServerClient(f"127.0.0.1:{server.spec.ports.grpc}") as client:
        calls = (
            client.get_system_shared_memory_status,
            client.get_cuda_shared_memory_status,
            client.get_model_repository_index,
            client.get_trace_settings,
            client.get_log_settings,
            lambda headers: client.unload_model("synthetic_engine", headers=headers),
        )
        for call in calls:
            for key in ({}, {ADMIN_METADATA: ""}, {ADMIN_HEADER: admin_key(server.folder)}):
                with pytest.raises(InferenceServerException, match="restricted"):
                    call(headers=key)


def test_what_clients_and_perf_tools_read_is_open_and_the_rest_to_the_runs_own_key(server: Running) -> None:
    key = admin_key(server.folder)
    assert (server.folder / ADMIN).stat().st_mode & 0o077 == 0
    assert key not in (server.folder / LOG).read_text()
    with grpcclient.InferenceServerClient(f"127.0.0.1:{server.spec.ports.grpc}") as client:
        assert client.is_server_ready() and client.get_server_metadata().version
        assert client.get_model_metadata("synthetic").name == client.get_model_config("synthetic").config.name
        assert client.get_inference_statistics("synthetic").model_stats
        assert client.get_log_settings(headers={ADMIN_METADATA: key}).settings
    url = f"http://127.0.0.1:{server.spec.ports.http}/v2/logging"
    assert httpx.get(url, headers={ADMIN_HEADER: key}).json()["log_verbose_level"] == 0


def test_clients_that_leave_at_their_refusal(server: Running) -> None:
    for _ in range(50):
        assert isinstance(ask(server, HOSTILE["empty text"].tensors, patient=False), InvalidRequest)
    good_request_succeeds(server)
