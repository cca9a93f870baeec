"""A real engine on a machine that hardly gives it a core: a step takes seconds, and nobody takes that for a hang."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from clients.grpc import Client
from contract.state import read_state
from contract.tensors import stage_names
from serving.process import stubs
from serving.supervisor import Running
from tests.e2e.servers import smollm2

RUNS_S, RESTS_S = 0.03, 0.37


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with smollm2(tmp_path_factory.mktemp("starved"), canaries=True) as running:
        yield running


@contextmanager
def starved(engine: psutil.Process) -> Iterator[None]:
    """A process that runs for a thirteenth of the time."""
    over = threading.Event()

    def starve() -> None:
        while not over.wait(RUNS_S):
            engine.suspend()
            over.wait(RESTS_S)
            engine.resume()

    thread = threading.Thread(target=starve)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_long_step_is_no_hang(server: Running) -> None:
    before = read_state(server.folder)
    assert before is not None
    stage = stage_names(server.spec.name)[1]
    (stub,) = [each for each in stubs(before.server_pid) if each.model == stage]
    (engine,) = stub.process.children()
    with Client(f"127.0.0.1:{server.spec.ports.grpc}", server.spec.name) as client, starved(engine):
        assert client.generate(input_ids=list(range(1000, 1400)), max_tokens=1).num_output_tokens == 1
    after = read_state(server.folder)
    assert after is not None
    assert (after.restarts, after.server_pid) == (0, before.server_pid)
