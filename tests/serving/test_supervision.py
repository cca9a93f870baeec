"""The supervisor over a stand-in server: exit codes, back-off, giving up, hangs and patience."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from contract.spec import Deployment
from contract.state import Phase, State, read_state
from serving import process
from serving.supervision import policy_of
from serving.triton import Launch
from tests.serving.conftest import Site, Start, make_site, state_when
from tests.serving.stream import until

QUICK = {"backoff_s": [0.1, 0.2, 0.4], "quiet_s": 0.2, "start_timeout_s": 10, "stub_interval_s": 0.1}
PACE = {"interval_s": 0.3, "late_s": 1.0, "bound_s": 4.0}


@pytest.fixture
def standin(tmp_path: Path) -> Site:
    return make_site(tmp_path, "standin")


def command(site: Site, *behaviour: str, **policy: object) -> list[str]:
    script = str(Path(__file__).with_name("supervise_standin.py"))
    chosen = json.dumps(QUICK | {"pace": PACE} | policy)
    return [sys.executable, script, str(site.config), str(site.root), chosen, *behaviour]


def run(site: Site, *behaviour: str, **policy: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(site, *behaviour, **policy), capture_output=True, text=True, timeout=40)


def is_ready(state: State) -> bool:
    return state.phase is Phase.READY


@pytest.mark.parametrize(
    ("engine", "start_s"),
    [
        ({"runtime": "openvino"}, 120),
        ({"runtime": "vllm"}, 1200),
        ({"runtime": "trtllm", "precision": "bf16", "trtllm": {"load_timeout_s": 900}}, 120 + 900),
    ],
)
def test_a_start_may_take_as_long_as_the_engine_does(engine: dict[str, object], start_s: float) -> None:
    source = {"kind": "path", "path": "/checkpoint"}
    spec = Deployment.model_validate({"name": "model", "source": source, "engine": engine})
    assert policy_of(spec).start_timeout_s == start_s


def test_exits_with_the_servers_code(standin: Site, start: Start) -> None:
    process = start(command(standin, "code", "7"))
    state_when(standin, is_ready)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 7
    assert read_state(standin.folder) is None


def test_second_interrupt_kills_at_once(standin: Site, start: Start) -> None:
    process = start(command(standin, "stubborn"))
    state_when(standin, is_ready)
    process.send_signal(signal.SIGINT)
    state_when(standin, lambda state: state.phase is Phase.DRAINING)
    process.send_signal(signal.SIGINT)
    assert process.wait(3) == 128 + signal.SIGKILL


def test_kills_a_server_that_does_not_exit(standin: Site, start: Start) -> None:
    process = start(command(standin, "stubborn", exit_timeout_s=1))
    state_when(standin, is_ready)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 128 + signal.SIGKILL
    assert "has not exited after 1 s" in process.communicate()[0]


def test_interrupt_while_starting(standin: Site, start: Start) -> None:
    process = start(command(standin, "mute"))
    state = state_when(standin, lambda state: state.server_pid > 0)
    process.send_signal(signal.SIGINT)
    process.wait(6)
    with pytest.raises(ProcessLookupError):
        os.kill(state.server_pid, 0)


def test_gives_up_after_five_failed_starts(standin: Site) -> None:
    ended = run(standin, "dies")
    assert ended.returncode == 1
    refusal = ended.stderr
    assert "failed to start 5 times in a row: the server exited with code 9" in refusal
    assert "something broke in here" in refusal
    assert str(standin.folder / "server.log") in refusal
    assert "Traceback" not in ended.stdout + refusal
    for number, delay in ((1, 0.1), (2, 0.2), (3, 0.4), (4, 0.4)):
        assert f"restart {number} in {delay} s" in ended.stdout
    assert "restart 5" not in ended.stdout


def test_gives_up_on_a_server_that_never_answers(standin: Site) -> None:
    ended = run(standin, "mute", start_timeout_s=1.0)
    assert ended.returncode == 1
    assert "not ready after 1 s (its port does not answer)" in ended.stderr


def test_backs_off_while_the_server_crashes(standin: Site, start: Start) -> None:
    process = start(command(standin, "crashes", "0.5"))
    state = state_when(standin, lambda state: state.restarts >= 3)
    assert state.last_failure == "the server was killed by SIGKILL"
    process.send_signal(signal.SIGTERM)
    process.wait(10)
    said = process.stdout.read() if process.stdout else ""
    assert "restart 1 in 0.1 s" in said
    assert "restart 2 in 0.2 s" in said
    assert "restart 3 in 0.4 s" in said


def test_ranks_of_other_machines_get_no_second_server(standin: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """trtllm-llmapi-launch's ranks answer one process: a new one would wait for them until its timeout."""
    monkeypatch.setenv("TLLM_SPAWN_PROXY_PROCESS", "1")
    ended = run(standin, "crashes", "0.5")
    assert ended.returncode == 1
    assert "standin ended: the server was killed by SIGKILL, and the ranks of" in ended.stderr
    assert "End the job on every machine, and start it anew" in ended.stderr
    assert "restart 1" not in ended.stdout


# As MPI does it: a rank with a session of its own, and one whose parent is gone. Neither is in the server's group.
RANKS = """
import subprocess, sys, time
rank = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(600)"]
child = subprocess.Popen(rank, start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
begin = f"import subprocess; print(subprocess.Popen({rank}, start_new_session=True, stdout=-3, stderr=-3).pid)"
orphan = subprocess.run([sys.executable, "-c", begin], capture_output=True, text=True, check=True).stdout.strip()
print(child.pid, orphan, flush=True)
time.sleep(600)
"""


def test_a_server_that_begins_during_a_look_gets_no_second_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its guard comes between the look for one and the question whether it should be there."""
    guard_of, began = process._guard_of, False

    def look(server: process.Server) -> psutil.Process | None:
        nonlocal began
        seen, began = guard_of(server) if began else None, True
        return seen

    async def guards() -> list[str]:
        launch = Launch([sys.executable, "-c", "import time; time.sleep(600)"], dict(os.environ))
        server = await process.start(launch, "conch_test_of_guards_")
        while not process._has_begun(server):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        monkeypatch.setattr(process, "_guard_of", look)
        monkeypatch.setattr(process, "_has_begun", lambda server: began)
        keeper = asyncio.create_task(process.keep_guarded(server, 0.01))
        await asyncio.sleep(0.2)
        ours = [" ".join(child.cmdline()) for child in psutil.Process().children()]
        keeper.cancel()
        process.kill(server)
        return [each for each in ours if "--group" in each and server.prefix in each]

    assert asyncio.run(guards()) == []


def test_a_killed_servers_ranks_are_gone_before_the_next_begins() -> None:
    """In sessions of their own they would outlive it, and hold the GPU that the next one measures."""

    async def killed() -> list[int]:
        launch = Launch([sys.executable, "-c", RANKS], dict(os.environ))
        server = await process.start(launch, "conch_test_of_ranks_")
        pids = [int(word) for word in (await server.output.readline()).split()]
        assert all(map(is_alive, pids))
        process.kill(server)
        return [pid for pid in pids if is_alive(pid)]

    assert asyncio.run(killed()) == []


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_back_off_starts_over_after_a_healthy_time(standin: Site, start: Start) -> None:
    process = start(command(standin, "crashes", "0.5", forgiven_s=0.1))
    state_when(standin, lambda state: state.restarts >= 2)
    process.send_signal(signal.SIGTERM)
    assert "restart 2 in 0.1 s" in process.communicate(timeout=10)[0]


def test_two_errors_in_a_row_restart_the_server(standin: Site, start: Start) -> None:
    start(command(standin, "wrong"))
    state = state_when(standin, lambda state: state.restarts > 0)
    assert state.last_failure == "two canaries in a row failed: [engine_failed] it is broken"


def test_a_late_answer_is_no_hang_while_the_stages_move(standin: Site, start: Start) -> None:
    start(command(standin, "slow", "2.5"))
    first = state_when(standin, is_ready)
    for gone in until(8, "patience"):
        state = read_state(standin.folder)
        assert state and state.restarts == 0 and state.server_pid == first.server_pid
        if gone > 5:
            break


def test_no_answer_within_the_bound_is_a_hang_whatever_moves(standin: Site, start: Start) -> None:
    start(command(standin, "slow", "30"))
    state = state_when(standin, lambda state: state.restarts > 0)
    assert state.last_failure.startswith("no answer to a one-token request for 4 s")


def test_another_server_on_our_port_is_not_taken_for_ours(standin: Site, start: Start) -> None:
    """After a crash, someone takes the port: the canary must not be satisfied with a stranger's answer."""
    start(command(standin, "crashes", "1", backoff_s=[2.0, 0.1]))
    state_when(standin, is_ready)
    state_when(standin, lambda state: state.phase is Phase.RESTARTING)
    ports = [str(standin.spec.ports.grpc), str(standin.spec.ports.metrics)]
    stranger = start([sys.executable, str(Path(__file__).with_name("standin.py")), *ports, "fine"])
    state = state_when(standin, lambda state: state.restarts >= 8)  # it was ready once: it is never given up
    assert "is in use by python" in state.last_failure
    assert f"(pid {stranger.pid})" in state.last_failure
    stranger.kill()
    state_when(standin, is_ready)
