"""Which interface this node reaches the head through, as the kernel's routes say."""

import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

from contract.errors import ConchError
from deploy.doctor.result import Result

# Nobody's address (RFC 5737), so it takes the default route. Connecting a UDP socket sends nothing.
_ELSEWHERE = "203.0.113.1"
_NET = Path("/sys/class/net")
_SLOW_GBPS = 10


@dataclass(frozen=True)
class Route:
    """The way to the head."""

    interface: str
    address: str  # this node's own
    gbps: float  # 0 where the driver does not tell, as for virtual ones
    mtu: int


def towards(head: str) -> Route:
    """The route to a host, or without one the default route.

    Raises:
        ConchError: a name that means nothing here, or no route to it.
    """
    try:
        family, kind, _, _, where = socket.getaddrinfo(head or _ELSEWHERE, 9, type=socket.SOCK_DGRAM)[0]
    except socket.gaierror as error:
        raise ConchError(
            f"{head} means nothing to this node: {error.strerror}", fix="Give the head's address"
        ) from None
    try:
        with socket.socket(family, kind) as probe:
            probe.connect(where)
            address = str(probe.getsockname()[0]).partition("%")[0]
    except OSError as error:
        raise ConchError(
            f"no route to {head or 'other machines'}: {error.strerror}", fix="ip route shows them"
        ) from None
    for interface, own in psutil.net_if_addrs().items():
        if any(each.address.partition("%")[0] == address for each in own):
            return Route(interface, address, max(_number(interface, "speed"), 0) / 1000, _number(interface, "mtu"))
    raise ConchError(
        f"{address}, which the route to {head} starts from, is on no interface", fix="ip address shows them"
    )


def check(route: Route, head: str, *, sockets_alone: bool) -> Result:
    """The interface; a slow one matters where it must carry everything."""
    speed = f"{route.gbps:g} Gbit/s" if route.gbps else "speed unknown"
    where = f"to the head {head}" if head else "default route"
    seen = f"{route.interface} ({where}): {route.address}, {speed}, MTU {route.mtu}"
    same = {"MTU": str(route.mtu)}
    if head and sockets_alone and 0 < route.gbps < _SLOW_GBPS:
        todo = "tensor parallelism over it is hopeless: use RDMA, a faster card, or pipeline stages alone"
        return Result("route", "warn", seen, todo, same)
    return Result("route", "ok", seen, "", same)


def _number(interface: str, name: str) -> int:
    try:
        return int((_NET / interface / name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
