"""A node that follows its head: real processes, a real port."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

CODE = Path(__file__).resolve().parents[2]
# A node: says that it begins, and has a process of its own, which also must not outlive it.
NODE = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(sys.argv[1], "a") as file:
    print(child.pid, file=file, flush=True)
time.sleep(float(sys.argv[2]))
"""


@contextmanager
def head(port: int = 0) -> Iterator[int]:
    """Something that listens, as a head does."""
    with socket.create_server(("127.0.0.1", port)) as listening:
        yield listening.getsockname()[1]


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def begun(log: Path) -> list[int]:
    """The children of every node that was started."""
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def lives(pid: int) -> bool:
    """Whether it runs; one that nobody has reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def following(port: int, log: Path, life_s: float = 600) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "serving.follow", f"127.0.0.1:{port}"]
    process = subprocess.Popen([*command, sys.executable, "-c", NODE, str(log), str(life_s)], cwd=CODE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)
        assert not any(map(lives, begun(log)))


def test_it_starts_with_the_head_ends_with_it_and_starts_anew_with_the_next(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with head() as port:
        pass
    with following(port, log):
        time.sleep(1.5)
        assert begun(log) == []  # no head yet
        with head(port):
            until(lambda: len(begun(log)) == 1)
        until(lambda: not lives(begun(log)[0]))
        with head(port):
            until(lambda: len(begun(log)) == 2)


def test_a_node_that_ends_is_started_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with head() as port, following(port, log, life_s=0.1):
        until(lambda: len(begun(log)) == 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_of_it(number: int, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with head() as port, following(port, log) as process:
        until(lambda: len(begun(log)) == 1)
        os.kill(process.pid, number)
        assert process.wait(10) == 0


@pytest.mark.parametrize("words", [(), ("127.0.0.1:5000",), ("nowhere", "true")])
def test_what_it_cannot_follow(words: tuple[str, ...]) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "serving.follow", *words], cwd=CODE, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert run.stderr.startswith("usage: python -m serving.follow HOST:PORT COMMAND")
