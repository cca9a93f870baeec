"""Collectives between nodes: all there, one cut off in the middle, one process killed, one that never came."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.deploy.cases import CODE
from tests.deploy.nodes import Node, network

TORCH = CODE / ".venv-build/bin/python"
needs_torch = pytest.mark.skipif(not TORCH.exists(), reason="no .venv-build: make engine makes it, and CI with it")
COMM = (TORCH, "-m", "deploy.doctor.comm", "--backend", "gloo", "--mib", "1")


@contextmanager
def ranks(nodes: list[Node], *options: str | Path) -> Iterator[list[subprocess.Popen[str]]]:
    """One rank a node, and its output."""
    where = ("--nodes", str(len(nodes)), "--head", nodes[0].address)
    with ExitStack() as running:
        yield [
            running.enter_context(_process(node.command(*COMM, *where, "--node-rank", str(node.number), *options)))
            for node in nodes
        ]


@contextmanager
def _process(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=CODE) as process:
        try:
            yield process
        finally:
            process.terminate()


def connected(head: subprocess.Popen[str]) -> None:
    """Wait until the collectives have begun."""
    assert head.stdout is not None
    assert any(line.endswith("are connected\n") for line in head.stdout)


def ends(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """How it ended, and what it said."""
    output, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    return process.returncode, output, errors


@needs_torch
def test_two_nodes(tmp_path: Path) -> None:
    with network(2) as nodes, ranks(nodes, "--json", tmp_path / "comm.json") as processes:
        for process in processes:
            code, _, errors = ends(process)
            assert (code, errors) == (0, "")
    found = json.loads((tmp_path / "comm.json").read_text())
    assert {each["check"]: each["status"] for each in found["results"]} == dict.fromkeys(
        ("all-reduce", "all-gather", "broadcast", "point-to-point", "clocks"), "ok"
    )
    assert [rank["host"] for rank in found["ranks"]] == [f"{node.name} at {node.address}" for node in nodes]
    assert all(0 < each["gbps"] for rank in ("0", "1") for each in found["measured"][rank]["measured"])


@needs_torch
def test_one_of_three_nodes_is_cut_off() -> None:
    with network(3) as nodes, ranks(nodes, "--seconds", "600", "--timeout", "5") as processes:
        connected(processes[0])
        nodes[2].cut()
        for process in processes[:2]:
            code, _, errors = ends(process)
            assert code == 1
            assert f"rank 2 (node 2, conch-2 at {nodes[2].address}) has been silent" in errors
        code, _, errors = ends(processes[2])
        assert code == 1
        assert f"the head at {nodes[0].address}:29500 has not answered" in errors
