"""``cluster`` of a deployment spec: the machines that one engine is spread over."""

from typing import Annotated

from pydantic import Field

from contract.fabric import Fabric
from contract.frozen import Frozen
from contract.scale import Scale


class Node(Frozen):
    """One machine."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,62}$")  # its host name, which is also Slurm's
    address: str = Field(pattern=r"^[A-Za-z0-9:][A-Za-z0-9.:-]*$")  # where the others reach it


class Cluster(Frozen):
    """Machines that are alike, with the checkout and its engine at the same path."""

    nodes: tuple[Node, ...] = Field(min_length=1)  # the head first: Triton and the gateway run there
    gpus_per_node: int = Field(default=8, ge=1)
    port: Annotated[int, Field(ge=1, le=65535)] = 5000  # of the head, where the nodes find each other
    fabric: Fabric | None = None  # as make doctor finds it; none: NCCL and Gloo search for themselves
    scale: Scale | None = None  # on Kubernetes; none: one server

    @property
    def head(self) -> Node:
        """Where rank 0 runs."""
        return self.nodes[0]
