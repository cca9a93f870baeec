"""Collectives between nodes: all there, one cut off in the middle, one rank killed, one that never came."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
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
    ) | dict.fromkeys(("all-reduce in a CUDA graph", "vLLM's NCCL in a CUDA graph"), "skipped")
    assert [rank["host"] for rank in found["ranks"]] == [f"{node.name} at {node.address}" for node in nodes]
    assert all(
        each["gbps"] > 0 or each["skipped"] for rank in ("0", "1") for each in found["measured"][rank]["measured"]
    )


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


@needs_torch
def test_a_rank_is_killed() -> None:
    with network(2) as nodes, ranks(nodes, "--seconds", "600") as processes:
        connected(processes[0])
        (victim,) = (
            child for child in psutil.Process(processes[1].pid).children() if child.name().startswith("python")
        )
        victim.send_signal(signal.SIGKILL)
        code, _, errors = ends(processes[1])
        assert (code, errors) == (1, "error: rank 1, on this node, was ended by SIGKILL\n")
        code, _, errors = ends(processes[0])
        assert code == 1
        assert f"rank 1 (node 1, conch-1 at {nodes[1].address}) has been silent" in errors


@needs_torch
def test_a_node_never_comes() -> None:
    with network(1) as (head,):
        where = ("--nodes", "2", "--head", head.address, "--wait", "2")
        with _process(head.command(*COMM, *where)) as process:
            code, _, errors = ends(process)
    assert code == 1
    assert errors.startswith(f"error: the 2 nodes did not all meet at {head.address}:29500 within 2 s")
