"""make chat's program in a real terminal and in a pipe, against a real server that says the prompt back."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from contract.spec import Deployment, write_spec
from serving.supervisor import Running
from tests.e2e.servers import on_free_ports, synthetic

ROOT = Path(__file__).resolve().parents[2]
HANG_S = 30
PROMPT = "› "


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with synthetic(tmp_path_factory.mktemp("chat"), step_ms=2, max_input_len=3000) as running:
        yield running


def chat(spec: Deployment, folder: Path) -> list[str]:
    config = folder / "chat.yaml"
    write_spec(config, spec)
    return [sys.executable, "-m", "clients.chat", str(config)]


class Terminal:
    """A program in a pseudo-terminal, typed at and read from."""

    def __init__(self, command: list[str]) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.chdir(ROOT)
            os.execvpe(command[0], command, {**os.environ, "TERM": "dumb", "COLUMNS": "100"})
        self._unread = ""

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def until(self, text: str) -> str:
        """Read on, to the end of the next such text; returns what was read."""
        ends = time.monotonic() + HANG_S
        while text not in self._unread:
            assert time.monotonic() < ends, f"no {text!r} in {self._unread!r}"
            if select.select([self._fd], [], [], 0.5)[0]:
                self._unread += os.read(self._fd, 65536).decode(errors="replace")
        came, self._unread = self._unread.split(text, 1)
        return came + text

    def exit_code(self, key: str = "") -> int:
        """How it ended; until it does, the key is pressed again and again, also while it is ending.

        Between a prompt that is seen and the read that waits for keys, a signal or an end of input is lost on Python.
        """
        ends = time.monotonic() + HANG_S
        while (ended := os.waitpid(self.pid, os.WNOHANG)) == (0, 0):
            assert time.monotonic() < ends, "the program does not end"
            with suppress(OSError):  # it may end just now
                self.type(key)
            time.sleep(0.02)
        return os.waitstatus_to_exitcode(ended[1])


def test_a_conversation_in_a_terminal(server: Running, tmp_path: Path) -> None:
    terminal = Terminal(chat(server.spec, tmp_path))
    terminal.until(PROMPT)
    terminal.type("ahoy\n")
    terminal.until("ahoy")
    terminal.until("ahoy")  # the echo of the typing, then the answer's
    terminal.type("\x03")
    assert "cancelled" in terminal.until("cancelled")
    terminal.until(PROMPT)  # Ctrl-C ended the answer, not the program
    terminal.type("/help\n")
    assert "/system TEXT" in terminal.until(PROMPT)
    terminal.type("again\n")
    terminal.until("again")
    ended = terminal.until("· length")
    assert "again" in ended
    assert "tokens/s" in ended
    assert "first token" in ended
    terminal.until(PROMPT)
    terminal.type("/quit\n")
    assert terminal.exit_code() == 0


def test_ctrl_c_and_ctrl_d_at_the_prompt_end_it(server: Running, tmp_path: Path) -> None:
    for key in ("\x03", "\x04"):
        terminal = Terminal(chat(server.spec, tmp_path))
        terminal.until(PROMPT)
        assert terminal.exit_code(key) == 0


def test_lines_from_a_pipe(server: Running, tmp_path: Path) -> None:
    run = subprocess.run(
        chat(server.spec, tmp_path),
        input="/system be brief\nhello\n",
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=HANG_S,
        check=True,
    )
    assert "be brief" in run.stdout  # the echo says the whole prompt back
    assert "hello" in run.stdout
    assert "›" not in run.stdout


def test_a_full_conversation_is_refused_and_the_program_goes_on(server: Running, tmp_path: Path) -> None:
    run = subprocess.run(
        chat(server.spec, tmp_path),
        input="x" * 3500 + "\nshort\n",
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=HANG_S,
        check=True,
    )
    assert "/new starts over" in run.stdout
    assert "short" in run.stdout


def test_no_server(tmp_path: Path) -> None:
    spec = on_free_ports(Deployment.model_validate({"name": "nobody", "engine": {"runtime": "synthetic"}}))
    run = subprocess.run(chat(spec, tmp_path), capture_output=True, text=True, cwd=ROOT, timeout=HANG_S, check=False)
    assert run.returncode == 1
    assert "make serve" in run.stdout
    assert "Traceback" not in run.stderr
