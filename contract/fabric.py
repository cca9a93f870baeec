"""How the nodes of a cluster reach each other: what python -m deploy.doctor finds, and a deployment writes down."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from contract.frozen import Frozen

# As the kernel allows it; no list, no prefix and no exclusion: those are NCCL's own syntax, which Gloo does not read.
Interface = Annotated[str, Field(pattern=r"^[^\s/:,=^]{1,15}$")]
RdmaDevice = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+(:[1-9][0-9]*)?$")]  # mlx5_0, or one port of it: mlx5_0:1


class Fabric(Frozen):
    """What one node talks to the others through."""

    interface: Interface  # the socket interface that reaches the head node
    rdma: tuple[RdmaDevice, ...] = ()  # InfiniBand or RoCE devices; none: all goes through sockets
    # RoCE: the row of each device's GID table to send from; none: NCCL searches. InfiniBand has no use for it.
    gid_index: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _gid_has_devices(self) -> Self:
        if self.gid_index is not None and not self.rdma:
            raise ValueError("gid_index is of RDMA devices, and rdma names none: name them or leave it out")
        return self
