"""RDMA devices from sysfs trees: InfiniBand, RoCE v1 beside v2, ports that are down, and what NCCL is told of them."""

from pathlib import Path

import pytest

from contract.fabric import Fabric
from deploy.doctor import rdma
from deploy.doctor.network import recommended
from deploy.doctor.result import Result
from tests.deploy import sysfs

TREE = Path("class/infiniband")


def found(root: Path, *, uverbs: bool = True) -> tuple[rdma.Choice, dict[str, Result]]:
    """What is chosen, and the results by check."""
    devices = root / "dev"
    devices.mkdir()
    if uverbs:
        (devices / "uverbs0").touch()
    ports = rdma.ports(root / TREE)
    choice = rdma.choose(ports)
    return choice, {result.check: result for result in rdma.checks(ports, choice, devices)}


def test_no_devices(tmp_path: Path) -> None:
    choice, results = found(tmp_path)
    assert choice == rdma.Choice()
    assert results["RDMA"].status == "skipped"


def test_infiniband_with_a_link_that_is_down(tmp_path: Path) -> None:
    for number in (10, 2, 0):
        sysfs.port(tmp_path, f"mlx5_{number}", link="InfiniBand", rows=sysfs.IB)
    sysfs.port(tmp_path, "mlx5_3", link="InfiniBand", rows=sysfs.IB, state=sysfs.DOWN)
    choice, results = found(tmp_path)
    assert choice.names == ("mlx5_0", "mlx5_2", "mlx5_10")
    assert choice.gid_index is None
    assert results["RDMA"].status == "warn"
    assert "mlx5_3 is DOWN" in results["RDMA"].seen
    assert results["RDMA"].same == {"RDMA": "3 × 400 Gbit/s InfiniBand"}
    assert "GID index" not in results


def test_roce_takes_the_routed_row_of_version_2(tmp_path: Path) -> None:
    for number in range(2):
        sysfs.port(tmp_path, f"mlx5_{number}", link="Ethernet")
    choice, results = found(tmp_path)
    assert (choice.names, choice.gid_index) == (("mlx5_0", "mlx5_1"), 3)
    assert results["RDMA"].status == "ok"
    assert results["GID index"] == Result(
        "GID index", "ok", "3 (RoCE v2): mlx5_0 10.1.0.5 of eth_mlx5_0, mlx5_1 10.1.0.5 of eth_mlx5_1"
    )


def test_roce_over_ipv6_alone(tmp_path: Path) -> None:
    sysfs.port(tmp_path, "mlx5_0", link="Ethernet", rows={1: (sysfs.LOCAL, sysfs.V2), 5: (sysfs.GLOBAL6, sysfs.V2)})
    assert found(tmp_path)[0].gid_index == 5


def test_rows_that_differ_are_left_to_nccl(tmp_path: Path) -> None:
    sysfs.port(tmp_path, "mlx5_0", link="Ethernet")
    sysfs.port(tmp_path, "mlx5_1", link="Ethernet", rows={1: (sysfs.MAPPED, sysfs.V2)})
    choice, results = found(tmp_path)
    assert (choice.names, choice.gid_index) == (("mlx5_0", "mlx5_1"), None)
    assert results["GID index"].status == "warn"
    assert "mlx5_0 has RoCE v2 at 3; mlx5_1 has RoCE v2 at 1" in results["GID index"].seen
    assert "leave NCCL_IB_GID_INDEX out" in results["GID index"].todo


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param({0: (sysfs.LOCAL, sysfs.V1), 1: (sysfs.LOCAL, sysfs.V2)}, id="of the link alone"),
        pytest.param({2: (sysfs.MAPPED, sysfs.V1)}, id="version 1 alone"),
        pytest.param({3: (sysfs.MAPPED, "")}, id="of another namespace"),
    ],
)
def test_roce_without_an_address_that_is_routed(tmp_path: Path, rows: sysfs.Rows) -> None:
    sysfs.port(tmp_path, "mlx5_0", link="Ethernet", rows=rows)
    choice, results = found(tmp_path)
    assert choice.names == ()
    assert results["GID index"].status == "fail"
    assert "IPv4 address" in results["GID index"].todo


def test_the_fast_kind_alone_is_used(tmp_path: Path) -> None:
    sysfs.port(tmp_path, "mlx5_0", link="InfiniBand", rows=sysfs.IB)
    sysfs.port(tmp_path, "mlx5_bond_0", link="Ethernet", rate=sysfs.EDR)
    choice, results = found(tmp_path)
    assert choice.names == ("mlx5_0",)
    assert "mlx5_bond_0 25 Gbit/s Ethernet is left out" in results["RDMA"].seen
    assert results["GID index"].status == "skipped"


def test_a_port_of_a_device_with_two(tmp_path: Path) -> None:
    sysfs.port(tmp_path, "mlx4_0", link="InfiniBand", rows=sysfs.IB, number=1, state=sysfs.INIT)
    sysfs.port(tmp_path, "mlx4_0", link="InfiniBand", rows=sysfs.IB, number=2)
    choice, results = found(tmp_path)
    assert choice.names == ("mlx4_0:2",)
    assert "mlx4_0:1 is INIT" in results["RDMA"].seen


def test_nothing_is_up(tmp_path: Path) -> None:
    sysfs.port(tmp_path, "mlx5_0", link="InfiniBand", rows=sysfs.IB, state=sysfs.DOWN)
    choice, results = found(tmp_path)
    assert choice.names == ()
    assert (results["RDMA"].status, results["RDMA"].same) == ("warn", {"RDMA": "none"})


def test_a_container_that_sees_devices_and_cannot_open_them(tmp_path: Path) -> None:
    sysfs.port(tmp_path, "mlx5_0", link="InfiniBand", rows=sysfs.IB)
    _, results = found(tmp_path, uverbs=False)
    assert results["RDMA"].status == "fail"
    assert "--device" in results["RDMA"].todo


def test_the_fabric_of_a_node(tmp_path: Path) -> None:
    sysfs.port(tmp_path, "mlx5_0", link="Ethernet")
    net = recommended("127.0.0.1", tmp_path / TREE, tmp_path)
    assert net.fabric == Fabric(interface="lo", rdma=("mlx5_0",), gid_index=3)
    assert [result.check for result in net.results] == ["route", "RDMA", "GID index"]


def test_a_head_that_is_not_known(tmp_path: Path) -> None:
    net = recommended("no-such-host.invalid", tmp_path, tmp_path)
    assert net.fabric is None
    assert (net.results[0].check, net.results[0].status) == ("route", "fail")
    assert "no-such-host.invalid means nothing to this node" in net.results[0].seen
