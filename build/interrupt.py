"""Ctrl-C and SIGTERM end a build at once and cleanly, wherever it is.

Python's KeyboardInterrupt would not: raised inside a callback from C++ (torch, OpenVINO) it aborts the
process, or comes back as a RuntimeError that looks like a fault of the model.
"""

import os
import shutil
import signal
import subprocess
import sys
from types import FrameType

import psutil
from rich.console import Console

unfinished: set[str] = set()  # the folders that must not outlive this process
containers: dict[str, list[str]] = {}  # by name, what ends each: a container outlives the client that started it


def exit_on_interrupt() -> None:
    """From now on, SIGINT and SIGTERM remove what is unfinished and exit with 128 + the signal."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _exit)


def _exit(number: int, _frame: FrameType | None) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    for child in psutil.Process().children(recursive=True):
        child.kill()
    for command in containers.values():
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30, check=False)
    for folder in unfinished:
        shutil.rmtree(folder, ignore_errors=True)
    terminal = Console(file=sys.__stderr__)  # sys.stderr may be silenced
    terminal.show_cursor()
    terminal.print("\n[yellow]interrupted[/yellow]: run it again and it goes on where it stopped")
    os._exit(128 + number)
