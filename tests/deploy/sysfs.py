"""/sys/class/infiniband as the kernel lays it out, for devices that this machine has not."""

from collections.abc import Mapping
from pathlib import Path

# Reading this file fails with EINVAL, as empty rows of a GID table do: the loopback has no speed.
_EINVAL = Path("/sys/class/net/lo/speed")
_ROWS = 16  # a real table has 256
NDR = "400 Gb/sec (4X NDR)"
EDR = "25 Gb/sec (1X EDR)"
ACTIVE, DOWN, INIT = "4: ACTIVE", "1: DOWN", "2: INIT"
V1, V2 = "IB/RoCE v1", "RoCE v2"
Rows = Mapping[int, tuple[str, str]]  # address and kind by index

LOCAL = "fe80:0000:0000:0000:a288:c2ff:fe31:0001"
GLOBAL6 = "2001:0db8:0000:0000:0000:0000:0000:0005"
MAPPED = "0000:0000:0000:0000:0000:ffff:0a01:0005"  # 10.1.0.5
# As mlx5 fills it for an interface with an IPv6 address of the link and one of IPv4.
ROCE: Rows = {0: (LOCAL, V1), 1: (LOCAL, V2), 2: (MAPPED, V1), 3: (MAPPED, V2)}
IB: Rows = {0: ("fe80:0000:0000:0000:a288:c203:0031:0001", V1)}


def port(
    root: Path, device: str, *, link: str, state: str = ACTIVE, rate: str = NDR, rows: Rows = ROCE, number: int = 1
) -> None:
    """Add a port, and its device if it is the first."""
    real = root / "devices" / "pci0000:15" / device / "infiniband" / device
    top = root / "class" / "infiniband"
    top.mkdir(parents=True, exist_ok=True)
    if not (top / device).is_symlink():
        (top / device).symlink_to(real)
    folder = real / "ports" / str(number)
    for name in ("gids", "gid_attrs/types", "gid_attrs/ndevs", "pkeys", "counters"):
        (folder / name).mkdir(parents=True)
    for name, text in {
        "link_layer": link,
        "state": state,
        "rate": rate,
        "phys_state": "5: LinkUp",
        "lid": "0x0",
    }.items():
        (folder / name).write_text(f"{text}\n")
    for index in range(_ROWS):
        address, kind = rows.get(index, ("0000:" * 7 + "0000", ""))
        (folder / "gids" / str(index)).write_text(f"{address}\n")
        for name, text in {"types": kind, "ndevs": f"eth_{device}" if kind and link == "Ethernet" else ""}.items():
            file = folder / "gid_attrs" / name / str(index)
            if text:
                file.write_text(f"{text}\n")
            else:
                file.symlink_to(_EINVAL)
