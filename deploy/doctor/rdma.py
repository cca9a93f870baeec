"""RDMA devices, as /sys/class/infiniband shows them: which of them NCCL should use, and from which GID."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from typing import Literal

from deploy.doctor.result import Result

SYSFS = Path("/sys/class/infiniband")
DEVICES = Path("/dev/infiniband")
Link = Literal["InfiniBand", "Ethernet"]  # Ethernet is RoCE
_V2 = "RoCE v2"


@dataclass(frozen=True)
class Gid:
    """One row of a port's GID table."""

    index: int
    address: IPv6Address
    kind: str  # IB/RoCE v1 or RoCE v2
    netdev: str  # the network interface it comes from; '' where the kernel does not tell

    @property
    def routed(self) -> bool:
        """Whether routers carry it: RoCE v2, with an address that is not of the link alone."""
        return self.kind == _V2 and not self.address.is_link_local and int(self.address) != 0

    def __str__(self) -> str:
        return f"{self.address.ipv4_mapped or self.address} of {self.netdev or 'an interface of another namespace'}"


@dataclass(frozen=True)
class Port:
    """One port of one device."""

    device: str
    number: int
    state: str  # ACTIVE, DOWN, INIT, ARMED
    link: str
    gbps: float
    gids: tuple[Gid, ...]

    @property
    def active(self) -> bool:
        """Whether data can pass."""
        return self.state == "ACTIVE" and self.link in ("InfiniBand", "Ethernet")


@dataclass(frozen=True)
class Choice:
    """What NCCL is told to use."""

    ports: tuple[Port, ...] = ()
    names: tuple[str, ...] = ()  # device, or device:port where a device has other ports
    gid_index: int | None = None


def ports(root: Path = SYSFS) -> tuple[Port, ...]:
    """All ports of all devices, in order."""
    found = sorted(root.glob("*/ports/[0-9]*"), key=lambda path: (_natural(path.parts[-3]), int(path.name)))
    return tuple(_port(path) for path in found)


def choose(found: Iterable[Port]) -> Choice:
    """The fastest ports of one kind: NCCL does not join kinds, and a slower card only holds the others up."""
    every = tuple(found)
    usable = [port for port in every if port.active and (port.link == "InfiniBand" or any(_routed(port)))]
    if not usable:
        return Choice()
    best = max(usable, key=lambda port: (port.gbps, port.link == "InfiniBand"))
    chosen = tuple(port for port in usable if (port.link, port.gbps) == (best.link, best.gbps))
    names = tuple(_name(port, every) for port in chosen)
    return Choice(chosen, names, _index(chosen) if best.link == "Ethernet" else None)


def checks(found: tuple[Port, ...], choice: Choice, devices: Path = DEVICES) -> list[Result]:
    """The devices, and for RoCE the GID index."""
    if not found:
        return [Result("RDMA", "skipped", "no RDMA device: NCCL uses sockets")]
    results = [_devices(found, choice, devices)]
    if any(port.active and port.link == "Ethernet" for port in found):
        results.append(_gids(found, choice))
    return results


def _devices(found: tuple[Port, ...], choice: Choice, devices: Path) -> Result:
    down = [port for port in found if not port.active]
    idle = [port for port in found if port.active and port not in choice.ports]
    parts = [f"{_name(port, found)} {port.gbps:g} Gbit/s {port.link}" for port in choice.ports]
    parts += [f"{_name(port, found)} is {port.state}" for port in down]
    parts += [f"{_name(port, found)} {port.gbps:g} Gbit/s {port.link} is left out" for port in idle]
    seen = ", ".join(parts)
    if not choice.ports:
        todo = "bring a link up: ibstat and rdma link show why it is down; without one NCCL uses sockets"
        return Result("RDMA", "warn", seen, todo, {"RDMA": "none"})
    first = choice.ports[0]
    same = {"RDMA": f"{len(choice.ports)} × {first.gbps:g} Gbit/s {first.link}"}
    if not any(devices.glob("uverbs*")):
        todo = f"{devices} is missing: start the container with --device {devices} (NCCL would use sockets)"
        return Result("RDMA", "fail", seen, todo, same)
    if down:
        return Result("RDMA", "warn", seen, "bring these links up, or leave them: NCCL_IB_HCA names the others", same)
    return Result("RDMA", "ok", seen, "", same)


def _gids(found: tuple[Port, ...], choice: Choice) -> Result:
    name = "GID index"
    without = [port for port in found if port.active and port.link == "Ethernet" and not any(_routed(port))]
    if without and not choice.ports:
        which = ", ".join(_name(port, found) for port in without)
        todo = "give its network interface an IPv4 address (rdma link shows which it is)"
        return Result(name, "fail", f"no {_V2} address on {which}", todo)
    if choice.ports[0].link == "InfiniBand":
        return Result(name, "skipped", "InfiniBand needs none")
    rows = {_name(port, found): list(_routed(port)) for port in choice.ports}
    if choice.gid_index is None:
        seen = "; ".join(
            f"{device} has {_V2} at {', '.join(str(gid.index) for gid in gids)}" for device, gids in rows.items()
        )
        todo = "no row serves every device: leave NCCL_IB_GID_INDEX out, NCCL 2.21 and newer look on each"
        return Result(name, "warn", seen, todo)
    at = choice.gid_index
    seen = ", ".join(f"{device} {gid}" for device, gids in rows.items() for gid in gids if gid.index == at)
    return Result(name, "ok", f"{at} ({_V2}): {seen}")


def _index(chosen: tuple[Port, ...]) -> int | None:
    """The first row that is routed on every port; one of IPv4 before one of IPv6, as the fabric's routers are."""
    for mapped in (True, False):
        rows = [{gid.index for gid in _routed(port) if bool(gid.address.ipv4_mapped) == mapped} for port in chosen]
        if common := set.intersection(*rows):
            return min(common)
    return None


def _routed(port: Port) -> list[Gid]:
    return [gid for gid in port.gids if gid.routed]


def _name(port: Port, every: Iterable[Port]) -> str:
    several = sum(other.device == port.device for other in every) > 1
    return f"{port.device}:{port.number}" if several else port.device


def _port(path: Path) -> Port:
    indices = sorted(int(row.name) for row in (path / "gids").glob("[0-9]*"))
    rate = re.match(r"[0-9.]+", _read(path / "rate"))
    return Port(
        device=path.parts[-3],
        number=int(path.name),
        state=_read(path / "state").rpartition(": ")[2],
        link=_read(path / "link_layer"),
        gbps=float(rate[0]) if rate else 0,
        gids=tuple(gid for index in indices if (gid := _gid(path, index))),
    )


def _gid(path: Path, index: int) -> Gid | None:
    """A row; None for an empty one, whose attributes the kernel refuses to read."""
    address, kind = _read(path / "gids" / str(index)), _read(path / "gid_attrs" / "types" / str(index))
    if not address or not kind:
        return None
    return Gid(index, IPv6Address(address), kind, _read(path / "gid_attrs" / "ndevs" / str(index)))


def _read(path: Path) -> str:
    """A file of sysfs; '' where the kernel says EINVAL, as for empty rows and those of another network namespace."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _natural(name: str) -> list[tuple[int, str]]:
    """mlx5_2 before mlx5_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
