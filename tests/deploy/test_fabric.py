"""The environment of NCCL and Gloo that follows from a node's network."""

import pytest

from contract.fabric import Fabric
from deploy.fabric import environment

SOCKETS = {"NCCL_SOCKET_IFNAME": "=eth0", "GLOO_SOCKET_IFNAME": "eth0"}


@pytest.mark.parametrize(
    ("fabric", "more"),
    [
        pytest.param(Fabric(interface="eth0"), {"NCCL_IB_DISABLE": "1"}, id="sockets"),
        pytest.param(
            Fabric(interface="eth0", rdma=("mlx5_0", "mlx5_1:1")), {"NCCL_IB_HCA": "=mlx5_0,mlx5_1:1"}, id="infiniband"
        ),
        pytest.param(
            Fabric(interface="eth0", rdma=("mlx5_0",), gid_index=0),
            {"NCCL_IB_HCA": "=mlx5_0", "NCCL_IB_GID_INDEX": "0"},
            id="roce",
        ),
    ],
)
def test_settings(fabric: Fabric, more: dict[str, str]) -> None:
    found = environment(fabric)
    assert {setting.name: setting.value for setting in found} == SOCKETS | more
    assert all(setting.why for setting in found)
