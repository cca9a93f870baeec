"""Nodes of a cluster as network namespaces of this machine: each has a host name, an eth0 and a wire to one switch.

The switch has a namespace of its own, so nothing of this machine's network is touched, and all is gone with the
processes that hold the namespaces.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_SUBNET = "198.51.100"  # RFC 5737: nobody's
_PROGRAMS = ("ip", "unshare", "nsenter")


@dataclass(frozen=True)
class Node:
    """One namespace."""

    number: int
    name: str
    address: str
    pid: int  # of the process that holds it
    switch: int

    def command(self, *words: str | Path) -> list[str]:
        """What runs a command on this node."""
        return ["nsenter", "--target", str(self.pid), "--net", "--uts", *map(str, words)]

    def cut(self) -> None:
        """Pull the wire at the switch: packets vanish, and nobody is told."""
        _ip(self.switch, "link", "set", f"port{self.number}", "down")


def refused() -> str:
    """Why there can be no such nodes here; '' where there can."""
    if absent := [program for program in _PROGRAMS if not shutil.which(program)]:
        return f"{', '.join(absent)} not installed (Debian: iproute2, util-linux)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    run = subprocess.run(
        ["unshare", "--net", "--uts", "ip", "link", "add", "x", "type", "veth"], capture_output=True, text=True
    )
    return f"no network namespaces here: {run.stderr.strip()}" if run.returncode else ""


@contextmanager
def network(count: int) -> Iterator[list[Node]]:
    """So many nodes that reach each other."""
    if reason := refused():
        pytest.skip(reason)
    with ExitStack() as held:
        switch = held.enter_context(_namespace("switch"))
        _ip(switch, "link", "add", "switch", "type", "bridge")
        _ip(switch, "link", "set", "switch", "up")
        yield [_node(number, switch, held) for number in range(count)]


def _node(number: int, switch: int, held: ExitStack) -> Node:
    name, address = f"conch-{number}", f"{_SUBNET}.{number + 1}"
    pid = held.enter_context(_namespace(name))
    port = f"port{number}"
    _ip(switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    _ip(switch, "link", "set", port, "master", "switch", "up")
    _ip(pid, "link", "set", "lo", "up")
    _ip(pid, "address", "add", f"{address}/24", "dev", "eth0")
    _ip(pid, "link", "set", "eth0", "up")
    return Node(number, name, address, pid, switch)


@contextmanager
def _namespace(name: str) -> Iterator[int]:
    """A process in new namespaces, which says so once it is."""
    script = f"hostname {name} && echo ready && exec sleep infinity"
    command = ["unshare", "--net", "--uts", "sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "ready\n"
            yield holder.pid
        finally:
            holder.kill()


def _ip(pid: int, *words: str) -> None:
    subprocess.run(["nsenter", "--target", str(pid), "--net", "ip", *words], check=True, capture_output=True)
