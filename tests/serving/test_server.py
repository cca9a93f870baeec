"""The real Triton with the real stages: faults are noticed and mended, streams end, draining keeps its word."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from contract.errors import ServeError
from contract.nvidia import TEXT_UNARY, TOKENS_UNARY
from contract.state import Phase
from contract.tensors import stage_names
from serving import process
from serving.supervisor import Running, find, running, start
from serving.triton import SHARED_MEMORY, shm_prefix
from tests.serving.conftest import Site, Start, make_site, state_when
from tests.serving.stream import Stream, until

NOTICED_S = 10.0
FOR_EVER = 250_000  # tokens; 40 minutes at the synthetic engine's pace


PROCESSES = {*stage_names("served"), TEXT_UNARY, TOKENS_UNARY}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    site = make_site(tmp_path_factory.mktemp("root"), "served")
    with running(site.spec, site.root) as server:
        yield server
    assert find(site.spec, site.root) is None


def test_running_tells_its_state(served: Running) -> None:
    assert served.state.phase is Phase.READY
    assert served.restarts == 0
    assert {stub.model for stub in process.stubs(served.pid)} == PROCESSES
    assert "is ready after" in served.log.read_text()
    stream = Stream(served.spec, 20)
    assert stream.end(10) == ""


def test_second_server_is_refused(served: Running) -> None:
    root = served.folder.parent.parent
    with pytest.raises(ServeError) as refusal:
        start(served.spec, root, str(served.folder / "config.yaml"), show=print)
    assert f"served is already served by pid {served.supervisor_pid}" in str(refusal.value)
    assert "make down" in str(refusal.value)
    assert served.state.phase is Phase.READY


@pytest.mark.parametrize(
    ("stage", "number"),
    [(1, signal.SIGKILL), (2, signal.SIGKILL), (1, signal.SIGSTOP)],
    ids=["dead engine", "dead postprocess", "hung engine"],
)
def test_a_stage_that_dies_or_hangs(served: Running, stage: int, number: signal.Signals) -> None:
    """Noticed within 10 s; the stream in flight ends with an error; the server comes back."""
    model = stage_names("served")[stage]
    restarts, server_pid = served.restarts, served.pid
    stream = Stream(served.spec, FOR_EVER).first_answer()
    victims = [stub for stub in process.stubs(server_pid) if stub.model == model]
    victims[0].process.send_signal(number)
    began = time.monotonic()
    for _ in until(NOTICED_S, "noticing"):
        if served.restarts > restarts:
            break
    assert stream.end(2) != "", "the stream ended as if nothing had happened"
    assert stream.ended_at - began < NOTICED_S
    reason = served.state.last_failure
    assert model in reason or "canar" in reason or "one-token request" in reason
    for _ in until(45, "recovery"):
        if served.state.phase is Phase.READY:
            break
    assert served.pid != server_pid
    assert Stream(served.spec, 20).end(10) == ""
    shared = list(SHARED_MEMORY.glob(f"{shm_prefix(served.spec, served.folder.parent.parent)}*"))
    regions = [each for each in shared if each.is_file()]
    assert len(regions) == len(PROCESSES), "the dead left shared memory behind"
    assert all(each.stat().st_mode & 0o077 == 0 for each in shared), "others may read it"
    (folder,) = set(shared) - set(regions)
    assert [each.name.startswith("python_env_") for each in folder.iterdir()] == [True]


def test_drains(site: Site, start: Start) -> None:
    """On SIGTERM a stream in flight finishes, a new one is refused, and the exit code is the server's: 0."""
    process_ = start(site.command("serve"))
    state_when(site, lambda state: state.phase is Phase.READY, 60)
    stream = Stream(site.spec, 300).first_answer()
    process_.send_signal(signal.SIGTERM)
    state_when(site, lambda state: state.phase is Phase.DRAINING)
    assert "[unavailable]" in Stream(site.spec, 20).end(5)
    assert stream.end(20) == ""
    assert stream.tokens == 300
    assert process_.wait(20) == 0
    said = process_.communicate()[0]
    assert "draining site" in said
    assert "site stopped" in said


def test_nothing_outlives_a_killed_supervisor(site: Site) -> None:
    """Not even a stage that is stopped and could not end by itself."""
    server = start(site.spec, site.root, str(site.config), show=print)
    group = server.pid
    process.stubs(group)[0].process.send_signal(signal.SIGSTOP)
    os.kill(server.supervisor_pid, signal.SIGKILL)
    for _ in until(5, "the end of every process"):
        listed = subprocess.run(["ps", "-o", "stat=", "-g", str(group)], capture_output=True, text=True).stdout
        if all(line.startswith("Z") for line in listed.split()):
            break
    assert not list(SHARED_MEMORY.glob(f"{shm_prefix(site.spec, site.root)}*"))
    assert find(site.spec, site.root) is None


def test_a_stage_that_does_not_load_says_why(site: Site) -> None:
    """The stage's own line, not Triton's four hundred."""
    engine = stage_names("site")[1]
    model = site.root / "model_repository" / "site" / engine / "1" / "model.py"
    model.write_text(
        "class ServeError(Exception): pass\n\n\nclass TritonPythonModel:\n    def initialize(self, args):\n"
        '        raise ServeError("no weights at /there. Run make engine")\n'
    )
    with pytest.raises(ServeError) as refusal, running(site.spec, site.root):
        pass
    said = str(refusal.value)
    assert f"{engine} did not load: no weights at /there. Run make engine" in said
    assert said.count("\n") == 0, said
    assert find(site.spec, site.root) is None


def test_a_stage_that_does_not_load_is_told_while_another_still_loads(site: Site) -> None:
    """An engine of minutes is not waited for."""
    preprocess, engine, _ = stage_names("site")
    ends = {
        engine: "        threading.Event().wait()\n",
        preprocess: '        raise ImportError("no tokenizer here")\n',
    }
    for name, end in ends.items():
        model = site.root / "model_repository" / "site" / name / "1" / "model.py"
        model.write_text(f"import threading\n\n\nclass TritonPythonModel:\n    def initialize(self, args):\n{end}")
    with (
        pytest.raises(ServeError, match=f"{preprocess} did not load: no tokenizer here"),
        running(site.spec, site.root),
    ):
        pass
    assert find(site.spec, site.root) is None


def test_the_buttons(tmp_path: Path, start: Start) -> None:
    """up, status, logs, check and down, as a user presses them."""
    site = make_site(tmp_path, "buttons")
    up = site.serving("up")
    assert up.returncode == 0, up.stdout + up.stderr
    for told in (
        "is ready",
        f"127.0.0.1:{site.spec.ports.grpc}",
        "/v2/models/buttons/generate_stream",
        "/metrics",
        "make chat",
    ):
        assert told in up.stdout
    assert "Traceback" not in up.stdout + up.stderr

    status = site.serving("status")
    assert status.returncode == 0
    for told in ("ready", "restarts", "active", "waiting"):
        assert told in status.stdout

    assert "held by this deployment's own server" in site.serving("check").stdout
    again = site.serving("up")
    assert again.returncode == 1
    assert "already served by pid" in again.stderr

    logs = start(site.command("logs"))
    assert logs.stdout is not None
    assert any("is ready after" in line for line in logs.stdout)
    logs.send_signal(signal.SIGINT)
    assert logs.wait(5) == 0
    assert "Traceback" not in logs.stdout.read()

    followed = start(site.command("logs"))
    down = site.serving("down")
    assert down.returncode == 0
    assert "buttons stopped" in down.stdout
    assert followed.communicate(timeout=5)[0].rstrip().endswith("buttons stopped")
    assert site.serving("status").returncode == 3


def test_a_process_is_dead_when_its_ports_are_free() -> None:
    """One whose first thread has ended looks as if it only waited to be reaped, while another thread holds a port."""
    held = subprocess.Popen([sys.executable, "-c", _HALF_ENDED], stdout=subprocess.PIPE, text=True)
    assert held.stdout
    port = int(held.stdout.readline())
    seen = psutil.Process(held.pid)
    for _ in until(10, "its first thread ends"):
        if seen.status() == psutil.STATUS_ZOMBIE:
            break
    stub = process.Stub("held", seen)
    assert not stub.is_dead()
    held.kill()
    for _ in until(10, "it is dead"):
        if stub.is_dead():
            break
    with socket.create_server(("127.0.0.1", port)):
        held.wait()


_HALF_ENDED = """
import ctypes, socket, threading, time
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).syscall(60, 0)  # exit, of this thread alone
"""
