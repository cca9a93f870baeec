"""SIGUSR1: another version is served, where one waits that can be; else the same again."""

import signal
from pathlib import Path

import pytest

from contract.rollout import Reload, tell_reload
from tests.serving.conftest import Start, make_site, state_when
from tests.serving.test_supervision import command, is_ready


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (None, "not reloaded: nothing was left to reload"),
        ("nowhere.yaml", "not reloaded: no config nowhere.yaml"),
        ("", "not reloaded: no model repository waits"),
    ],
)
def test_what_cannot_be_reloaded_is_told(tmp_path: Path, start: Start, told: str | None, said: str) -> None:
    standin = make_site(tmp_path, "standin")
    process = start(command(standin, "code", "0"))
    first = state_when(standin, is_ready)
    if told is not None:
        tell_reload(standin.folder, Reload("one", Path(told or standin.config)))
    process.send_signal(signal.SIGUSR1)
    again = state_when(standin, lambda state: is_ready(state) and state.server_pid != first.server_pid)
    assert (again.release, again.restarts) == ("", 0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert said in (process.stdout.read() if process.stdout else "")
