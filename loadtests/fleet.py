"""Several lean clients at once (loadtests/lean.py), each a process: one alone is too slow to load a GPU's server."""

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from contract.errors import ServeError
from loadtests.lean import Order, Timeline
from loadtests.served import ROOT

START_S = 2.0  # for every process to be at its mark


@dataclass(frozen=True)
class Load:
    """What a fleet saw."""

    timelines: list[Timeline]
    cpu_s: float  # of the clients


class Fleet:
    """The processes of one load, begun together."""

    def __init__(self, order: Order, processes: int) -> None:
        streams = order.streams or len(order.requests)
        processes = min(processes, streams)
        self.start_at = time.time() + START_S
        self._clients = []
        for number in range(processes):
            own = replace(
                order,
                requests=order.requests[number::processes],
                streams=len(range(number, streams, processes)),
                seed=order.seed + number,
                start_at=self.start_at,
            )
            client = subprocess.Popen(
                [sys.executable, "-m", "loadtests.lean"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
            )
            assert client.stdin
            client.stdin.write(json.dumps(asdict(own)).encode() + b"\n")
            client.stdin.flush()
            self._clients.append(client)

    def wait(self) -> Load:
        """The end of the load.

        Raises:
            ServeError: a client died.
        """
        timelines: list[Timeline] = []
        cpu_s = 0.0
        for client in self._clients:
            said, _ = client.communicate()
            if client.returncode:
                raise ServeError(f"a client of the load died with code {client.returncode}")
            answer = json.loads(said)
            timelines += [Timeline(**each) for each in answer["timelines"]]
            cpu_s += answer["cpu_s"]
        return Load(timelines, cpu_s)


def in_window(timelines: Iterable[Timeline], begins: float, ends: float) -> tuple[int, int]:
    """(tokens, responses) that arrived within a time."""
    counts = [count for each in timelines for now, count in each.deltas if begins <= now < ends]
    return sum(counts), len(counts)


def gaps(timelines: Iterable[Timeline]) -> Iterable[tuple[float, int]]:
    """(time between two responses of a stream, tokens that the second brought)."""
    for each in timelines:
        for (before, _), (after, count) in zip(each.deltas, each.deltas[1:], strict=False):
            yield after - before, count
