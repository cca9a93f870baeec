"""Several lean clients at once (loadtests/lean.py), each a process: one alone is too slow to load a GPU's server."""

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from contract.checkout import ROOT
from contract.errors import ServeError
from loadtests.lean import Order, Timeline, run

START_S = 2.0  # for every process to be at its mark

Requests = list[dict[str, Any]]  # prompt: ids, max_tokens, ignore_eos
Asker = Callable[[Requests, int], list[Timeline]]  # with so many in flight


def fresh(rng: random.Random, ids: range, count: int, prompt_tokens: int, max_tokens: int) -> Requests:
    """So many prompts of one length that mean nothing, so that no prefix cache has seen them."""
    return [{"prompt": rng.choices(ids, k=prompt_tokens), "max_tokens": max_tokens} for _ in range(count)]


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


def asker(way: str, host: str, port: int, model: str, clients: int = 1) -> Asker:
    """How to ask a server with so many requests in flight: from this process, or from several."""

    def ask(requests: Requests, streams: int) -> list[Timeline]:
        order = Order(way, host, port, model, requests, streams)
        if min(streams, clients) == 1:
            return asyncio.run(run(order))
        return Fleet(order, clients).wait().timelines

    return ask
