"""The environment that makes NCCL and Gloo use the network that was meant, each variable with its reason."""

from dataclasses import dataclass

from contract.fabric import Fabric


@dataclass(frozen=True)
class Setting:
    """One environment variable."""

    name: str
    value: str
    why: str


def environment(fabric: Fabric) -> tuple[Setting, ...]:
    """What every rank on a node with this fabric is started with."""
    sockets = (
        Setting(
            "NCCL_SOCKET_IFNAME",
            f"={fabric.interface}",
            f"NCCL's ranks meet over {fabric.interface}, which reaches the head, and not over the first interface it "
            "finds (a container's bridge, say); the = means this name and none that begins with it",
        ),
        Setting(
            "GLOO_SOCKET_IFNAME",
            fabric.interface,
            "Gloo's ranks too; it otherwise takes the address of the host's name, which is often 127.0.1.1",
        ),
    )
    if not fabric.rdma:
        return *sockets, Setting("NCCL_IB_DISABLE", "1", "no RDMA device is meant to be used: NCCL tries none it finds")
    devices = Setting(
        "NCCL_IB_HCA",
        f"={','.join(fabric.rdma)}",
        "only these devices carry data; without the = mlx5_1 would mean mlx5_10 too",
    )
    if fabric.gid_index is None:
        return *sockets, devices
    index = Setting(
        "NCCL_IB_GID_INDEX",
        str(fabric.gid_index),
        f"row {fabric.gid_index} of each device's GID table is the address that the network routes (RoCE v2)",
    )
    return *sockets, devices, index
