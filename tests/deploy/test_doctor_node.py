"""What the doctor says of memory, clock, disk, containers, ports and routes: of this machine, and of others."""

import resource
import socket
from pathlib import Path

import pytest

from contract.cluster import Cluster, Node
from contract.errors import ConchError
from deploy.doctor import clock, container, disk, memory, ports, route
from deploy.doctor.case import Case, Said, ask
from deploy.doctor.clock import Kernel
from tests.deploy.cases import cpu, gpu

CPU, GPU = Case(cpu(), "", Path()), Case(gpu("vllm", tensor=8), "", Path())
NOTHING = Said(error="not installed", absent=True)
TRACKING = """Reference ID    : C0000201 (192.0.2.1)
Stratum         : 3
System time     : {} seconds slow of NTP time
Last offset     : -0.000012 seconds
Leap status     : {}
"""


def test_what_cannot_be_asked() -> None:
    assert ask("no-such-program") == Said(error="no-such-program is not installed", absent=True)
    assert ask("sh", "-c", "echo first; echo second >&2; exit 3").error == "sh: second"
    assert ask("sh", "-c", "exit 3").error == "sh: exit status 3"


@pytest.mark.parametrize(
    ("case", "total", "free", "status"),
    [
        (CPU, 64, 64, "fail"),
        (CPU, 1024, 1024, "ok"),
        (CPU, 1024, 10, "warn"),
        (GPU, 1024, 1024, "fail"),
        (GPU, 8192, 8192, "ok"),
    ],
)
def test_shared_memory(case: Case, total: int, free: int, status: str) -> None:
    assert memory.judge_shm(total, free, case).status == status


def test_shared_memory_names_the_option() -> None:
    assert memory.judge_shm(64, 64, GPU).todo == "8192 MiB are needed: --shm-size=8g or --ipc=host"


@pytest.mark.parametrize(
    ("case", "limit", "status"),
    [(GPU, resource.RLIM_INFINITY, "ok"), (GPU, 8 * 2**20, "fail"), (CPU, 8 * 2**20, "ok")],
)
def test_locked_memory(case: Case, limit: int, status: str) -> None:
    assert memory.judge_memlock(limit, case).status == status


@pytest.mark.parametrize(
    ("kernel", "chrony", "several", "status", "seen"),
    [
        (Kernel(True, 0.0123), NOTHING, True, "ok", "synchronized, within 12.3 ms"),
        (Kernel(False, 16.0), NOTHING, True, "warn", "nothing synchronizes it"),
        (Kernel(False, 16.0), NOTHING, False, "ok", "nothing synchronizes it"),
        (None, NOTHING, True, "skipped", "the kernel does not let"),
        (
            Kernel(True, 0.1),
            Said(text=TRACKING.format("0.000025", "Normal")),
            True,
            "ok",
            "0.025 ms slow of its source",
        ),
        (Kernel(True, 0.1), Said(text=TRACKING.format("2.5", "Normal")), True, "warn", "2.5e+03 ms slow"),
        (Kernel(False, 16.0), Said(text=TRACKING.format("0.0", "Not synchronised")), True, "warn", "nothing"),
    ],
)
def test_clock(kernel: Kernel | None, chrony: Said, several: bool, status: str, seen: str) -> None:
    found = clock.judge(kernel, chrony, several=several)
    assert found.status == status
    assert seen in found.seen


def test_this_kernel_can_be_asked() -> None:
    found = clock.kernel()
    assert found is None or found.max_error_s >= 0


def test_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    found = disk.check(Case(cpu(), "", tmp_path / "engines" / "not-yet-built"))
    assert found.status in ("ok", "warn")
    assert found.seen.startswith(f"{tmp_path}: ")
    assert not list(tmp_path.iterdir())


def test_a_slow_disk() -> None:
    found = disk.judge("/mnt: 900 GB free", 90.0, 120.0, direct=True)
    assert (found.status, found.todo) == ("warn", "100 GB of weights take 14 min: keep engines/ on a local NVMe disk")
    assert disk.judge("/mnt: 900 GB free", 1000.0, 3000.0, direct=False).status == "ok"


@pytest.mark.parametrize(
    ("case", "docker", "podman", "toolkit", "cdi", "status", "words"),
    [
        (
            GPU,
            '{"ServerVersion": "28.2", "Runtimes": {"nvidia": {}}}',
            "",
            "CLI version 1.18.0\n",
            False,
            "ok",
            "toolkit 1.18.0",
        ),
        (GPU, '{"ServerVersion": "28.2", "Runtimes": {"runc": {}}}', "", "", False, "warn", "no runtime nvidia"),
        (GPU, '{"ServerVersion": "28.2", "Runtimes": null}', "", "", True, "ok", "docker 28.2 with GPUs"),
        (CPU, '{"ServerVersion": "28.2", "Runtimes": null}', "", "", False, "ok", "docker 28.2"),
        (CPU, '{"ServerVersion": ""}', "", "", False, "warn", "said nothing"),
        (GPU, "", "podman version 5.4.0\n", "", False, "warn", "GPUs are not described"),
        (GPU, "", "podman version 5.4.0\n", "", True, "ok", "podman version 5.4.0"),
        (GPU, "", "", "", False, "skipped", "neither docker nor podman"),
    ],
)
def test_containers(case: Case, docker: str, podman: str, toolkit: str, cdi: bool, status: str, words: str) -> None:
    answers = [Said(text=text) if text else NOTHING for text in (docker, podman, toolkit)]
    found = container.judge(case, *answers, cdi=cdi)
    assert found.status == status
    assert words in found.seen


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        free = {"grpc": 18001, "metrics": 18002, "gateway": 18003}
        found = ports.check(Case(cpu(ports={"http": port, **free}, gateway={"enabled": False}), "", Path()))
    assert found.status == "fail"
    assert f"ports.http: {port} is taken by " in found.seen
    assert "ports.grpc" not in found.seen


def test_the_clusters_port_is_the_heads() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        for address, seen in (("127.0.0.1", True), ("203.0.113.9", False)):
            cluster = Cluster(nodes=(Node(name="head", address=address),), port=port)
            spec = cpu(gateway={"enabled": False}).model_copy(update={"cluster": cluster})
            assert (f"cluster.port: {port} is taken by " in ports.check(Case(spec, "", Path())).seen) == seen


def test_an_address_that_is_not_this_machines() -> None:
    found = ports.check(Case(cpu(ports={"host": "203.0.113.9"}, gateway={"enabled": False}), "", Path()))
    assert found.status == "fail"
    assert "ports.http: 203.0.113.9:8000 cannot be listened on" in found.seen


def test_the_route_to_this_machine_itself_is_the_loopback() -> None:
    found = route.towards("127.0.0.1")
    assert (found.interface, found.address) == ("lo", "127.0.0.1")


def test_a_head_without_a_route() -> None:
    with pytest.raises(ConchError, match=r"no route to 255\.255\.255\.255"):
        route.towards("255.255.255.255")


def test_a_slow_route_matters_where_it_carries_everything() -> None:
    way = route.Route("eth0", "192.0.2.9", 1.0, 1500)
    assert route.check(way, "192.0.2.1", sockets_alone=True).status == "warn"
    assert route.check(way, "192.0.2.1", sockets_alone=False).status == "ok"
    assert route.check(way, "", sockets_alone=True).status == "ok"
    assert "speed unknown" in route.check(route.Route("eth0", "192.0.2.9", 0, 1500), "", sockets_alone=True).seen
