"""What the routes and the RDMA devices of a node come to: its fabric, which a deployment can write down."""

from dataclasses import dataclass
from pathlib import Path

from contract.errors import ConchError
from contract.fabric import Fabric
from deploy.doctor import rdma, route
from deploy.doctor.result import Result


@dataclass(frozen=True)
class Network:
    """A node's network, judged."""

    results: tuple[Result, ...]
    fabric: Fabric | None  # none: the head cannot be reached


def recommended(head: str, sysfs: Path = rdma.SYSFS, devices: Path = rdma.DEVICES) -> Network:
    """What this node should reach the others through."""
    ports = rdma.ports(sysfs)
    choice = rdma.choose(ports)
    results = rdma.checks(ports, choice, devices)
    try:
        way = route.towards(head)
    except ConchError as error:
        return Network((Result("route", "fail" if head else "skipped", error.message, error.fix), *results), None)
    first = route.check(way, head, sockets_alone=not choice.ports)
    fabric = Fabric(interface=way.interface, rdma=choice.names, gid_index=choice.gid_index)
    return Network((first, *results), fabric)
