"""How nodes reach each other, as a deployment writes it down."""

import pytest
from pydantic import ValidationError

from contract.fabric import Fabric


def test_what_a_machine_has() -> None:
    assert Fabric(interface="bond0.100").rdma == ()
    assert Fabric(interface="ens1f0np0", rdma=("mlx5_0", "mlx5_bond_0:1"), gid_index=3).gid_index == 3


@pytest.mark.parametrize("name", ["", "=eth0", "^docker0", "eth0,eth1", "eth 0", "a/b", "sixteen-letters-"])
def test_an_interface_is_one_name(name: str) -> None:
    with pytest.raises(ValidationError, match="interface"):
        Fabric(interface=name)


@pytest.mark.parametrize("name", ["", "=mlx5_0", "mlx5_0,mlx5_1", "mlx5_0:0", "mlx5_0:"])
def test_a_device_is_one_name_and_perhaps_a_port(name: str) -> None:
    with pytest.raises(ValidationError, match="rdma"):
        Fabric(interface="eth0", rdma=(name,))


def test_a_gid_index_needs_a_device() -> None:
    with pytest.raises(ValidationError, match="gid_index is of RDMA devices, and rdma names none"):
        Fabric(interface="eth0", gid_index=3)
