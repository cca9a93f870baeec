"""What the processes of a server and the GPU do while a load runs."""

import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.request import urlopen

import psutil


class Meter:
    """What the GPU and the processes do while a load runs."""

    def __init__(self, roots: Callable[[], list[psutil.Process]]) -> None:
        self._roots = roots
        self._gpu: list[list[float]] = []
        self._stop = threading.Event()

    def __enter__(self) -> "Meter":
        self._begun, self._before = time.time(), _cpu_s(self._roots())
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        took = time.time() - self._begun
        after = _cpu_s(self._roots())
        self.report: dict[str, Any] = {
            "cores_used": {
                name: round((used - self._before.get(name, 0.0)) / took, 2)
                for name, used in sorted(after.items())
                if used - self._before.get(name, 0.0) > 0.02 * took
            }
        }
        if self._gpu:
            names = ("gpu_utilisation_percent", "gpu_power_w", "gpu_memory_mib")
            self.report |= {
                name: round(statistics.mean(each))
                for name, each in zip(names, zip(*self._gpu, strict=True), strict=True)
            }

    def _watch(self) -> None:
        query = ["nvidia-smi", "--query-gpu=utilization.gpu,power.draw,memory.used", "--format=csv,noheader,nounits"]
        while not self._stop.wait(0.5):
            with suppress(OSError, ValueError):
                said = subprocess.run(query, capture_output=True, text=True, check=False).stdout
                self._gpu.append([float(each) for each in said.splitlines()[0].split(",")] if said else [])
        self._gpu = [each for each in self._gpu if len(each) == 3]


def _cpu_s(roots: list[psutil.Process]) -> dict[str, float]:
    """CPU time by what a process is, over the roots' whole trees."""
    used: dict[str, float] = {}
    for root in roots:
        with suppress(psutil.Error):
            for process in [root, *root.children(recursive=True)]:
                with suppress(psutil.Error):
                    name = _name(process)
                    used[name] = used.get(name, 0.0) + sum(process.cpu_times()[:2])
    return used


def _name(process: psutil.Process) -> str:
    command = process.cmdline()
    stage = next((part.split("/")[-3] for part in command if part.endswith("/1/model.py")), "")
    if stage:
        return stage.rpartition("_")[2]
    for module in (
        "python_backend.worker",
        "python_backend.vllm.raw",
        "vllm.entrypoints.cli.main",
        "loadtests.lean",
        "gateway",
    ):
        if module in command:
            return module.rpartition(".")[2]
    return (command[0] if len(command) == 1 else process.name()).split("/")[-1].strip()


def family(*words: str) -> Callable[[], list[psutil.Process]]:
    """The processes of this machine whose command line has all of these words."""

    def find() -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if all(word in process.cmdline() for word in words):
                    found.append(process)
        return found

    return find


def memory_mib(server_pid: int) -> dict[str, float]:
    """Resident memory of a server and its processes."""
    server = psutil.Process(server_pid)
    memory: dict[str, float] = {}
    for process in [server, *server.children(recursive=True)]:
        with suppress(psutil.Error):
            memory[_name(process)] = memory.get(_name(process), 0.0) + process.memory_info().rss / 2**20
    return {name: round(rss, 1) for name, rss in memory.items()}


def gauge(page: str, name: str) -> float:
    """The sum of a metric's samples on a Prometheus page of this machine."""
    with urlopen(page, timeout=10) as answer:  # noqa: S310  http and loopback only
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{"))
