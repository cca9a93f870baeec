"""``make bench-gateway PEERS=1``: requests/s and latencies of gateways before the same instant answer, in one run.

All stay up and take turns, round by round, so that a slow minute of the machine slows all of them; one client process
asks each. Other gateways' upstream speaks OpenAI's HTTP, ours Triton's gRPC: both are in memory, and what a request
costs them is in the report. ``upstream`` is the first of them asked without a gateway. Ctrl-C keeps what there is.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import psutil
from rich.console import Console

from contract.checkout import ROOT
from contract.errors import ServeError
from loadtests.command import ended, head, kept
from loadtests.family import cpu_s
from loadtests.gateway_peers.answers import WORDS, asked
from loadtests.gateway_peers.client import Order, Seen
from loadtests.gateway_peers.gateways import NAMES, Door, gateway, versions
from loadtests.gateway_peers.http1 import PATH
from loadtests.gateway_peers.report import Round, Row, failed, faults, put, row, table
from loadtests.gateway_peers.upstream import Upstream, upstream

ANSWERS = ("whole", "stream")


def measure(door: Door, behind: Upstream, order: Order) -> Round:
    """One load of one gateway.

    Raises:
        ServeError: the client died.
    """
    command = [sys.executable, "-m", "loadtests.gateway_peers.client"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as client:
        assert client.stdin and client.stdout
        try:
            client.stdin.write(json.dumps(asdict(order)) + "\n")
            client.stdin.flush()
            client.stdout.readline()
            before = _used(door, behind)
            client.stdout.readline()
            after = _used(door, behind)
            said = client.stdout.readline()
        finally:
            client.kill()
        if not said:
            raise ServeError("the client of the load died")
    memory = sum(process.memory_info().rss for process in door.processes()) / 2**20
    return Round(Seen(**json.loads(said)), after[0] - before[0], after[1] - before[1], memory)


def _used(door: Door, behind: Upstream) -> tuple[float, float]:
    return cpu_s(door.processes()), cpu_s([psutil.Process(behind.pid)])


def take_turns(doors: dict[str, Door], behind: Upstream, options: argparse.Namespace, rows: list[Row]) -> None:
    """Every gateway with every answer and number of clients; rows come and grow with each round."""
    for answer in ANSWERS:
        for clients in options.clients:
            rounds: dict[str, list[Round]] = {name: [] for name in doors}
            for number in range(1, options.rounds + 1):
                for name, door in doors.items():
                    body = asked(stream=answer == "stream")
                    order = Order(
                        *("127.0.0.1", door.port, PATH, dict(door.headers), body, clients),
                        *(options.warm_up, options.seconds),
                    )
                    rounds[name].append(measure(door, behind, order))
                    put(rows, row(name, answer, clients, rounds[name]))
                    seen = rounds[name][-1].seen
                    of = f"{answer}, {clients} clients, round {number} of {options.rounds}"
                    errors = f", {sum(seen.errors.values())} errors" if seen.errors else ""
                    speed = f"{seen.requests / seen.seconds:.1f} requests/s"
                    print(f"{time.strftime('%H:%M:%S')} {of}: {name} {speed}{errors}", flush=True)


def main(arguments: Sequence[str]) -> int:
    """Run it, write the JSON; 0 when every answer came whole.

    Raises:
        ServeError: a gateway is not installed, or does not start.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateways", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--clients", type=int, nargs="+", default=(10, 100))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-up", type=float, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench-gateway-peers.json")
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    report = {
        **head(),
        "versions": versions(),
        "answer_words": WORDS,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "rows": rows,
    }
    with ExitStack() as up:
        behind = up.enter_context(upstream())
        doors = {name: up.enter_context(gateway(name, behind)) for name in options.gateways}
        with kept(options.out, report, rows):
            take_turns(doors, behind, options, rows)
    console = Console(width=110)
    console.print(table(rows))
    for fault in faults(rows):
        console.print(fault, style="red", markup=False)
    return 1 if failed(rows) else 0


if __name__ == "__main__":
    ended(main)
