"""The filter before the wheel's Triton as a process: killed, stopped, left behind."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import grpc
import psutil

from tests.e2e.hostile import HANG_S, PROMPT, ask, tensor
from tests.e2e.servers import synthetic
from tests.e2e.test_triton_faults import filter_of
from tests.serving.stream import Stream, until


def lives(pid: int) -> bool:
    """Whether a process runs still; one that nobody has reaped does not."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_a_killed_filter_is_told_and_comes_back_without_the_server(tmp_path: Path) -> None:
    with synthetic(tmp_path) as server:
        pid, doorkeeper = server.pid, filter_of(server).pid
        cut = Stream(server.spec, 4000).first_answer()
        os.kill(doorkeeper, signal.SIGKILL)
        assert cut.end(HANG_S).startswith("UNAVAILABLE")
        for _ in until(HANG_S, "the trouble"):
            if "SIGKILL" in server.state.filter:
                break
        for _ in until(HANG_S, "the filter"):
            with suppress(grpc.RpcError):
                if ask(server, (PROMPT, tensor("max_tokens", 6))) == "tideti":
                    break
        for _ in until(HANG_S, "the state"):
            if not server.state.filter:
                break
        assert (server.pid, server.restarts) == (pid, 0)

        os.kill(pid, signal.SIGKILL)
        keeper = filter_of(server).pid
        for _ in until(HANG_S, "the server"):
            with suppress(grpc.RpcError):
                if server.pid and ask(server, (PROMPT, tensor("max_tokens", 6))) == "tideti":
                    break
        assert server.pid != pid and filter_of(server).pid == keeper
        family = [child.pid for child in psutil.Process(server.supervisor_pid).children(recursive=True)]
        folder = server.folder
    assert not any(map(lives, family))
    assert list((folder / "doors").iterdir()) == []
