"""Driver, GPUs and their paths, from what nvidia-smi prints."""

from pathlib import Path

import pytest

from contract.cluster import Cluster, Node
from deploy.doctor import gpus, topology
from deploy.doctor.case import Case, Said
from deploy.doctor.result import Result
from tests.deploy.cases import cpu, gpu

RECORDED = Path(__file__).with_name("recorded")
SMI = (RECORDED / "nvidia-smi.xml").read_text()
ABSENT = Said(error="nvidia-smi is not installed", absent=True)


def case(runtime: str = "vllm", **parallel: int) -> Case:
    return Case(gpu(runtime, **(parallel or {"tensor": 2})), "", Path())


def results(text: str, asked: Case | None = None) -> dict[str, Result]:
    return {result.check: result for result in gpus.checks(asked or case(), Said(text=text))}


def test_a_healthy_node() -> None:
    found = results(SMI)
    assert found["driver"] == Result(
        "driver", "ok", "590.44.01, for CUDA up to 13.1", "", {"driver": "590.44.01", "cuda": "13.1"}
    )
    assert (found["GPUs"].status, found["GPUs"].seen) == ("ok", "2 × NVIDIA H100 80GB HBM3 (80 GiB)")


@pytest.mark.parametrize(
    ("recording", "count", "seen"),
    [
        ("nvidia-smi-h100-1", 1, "1 × NVIDIA H100 80GB HBM3 (80 GiB)"),
        ("nvidia-smi-h200-2", 2, "2 × NVIDIA H200 (140 GiB)"),
    ],
)
def test_real_machines(recording: str, count: int, seen: str) -> None:
    found = results((RECORDED / f"{recording}.xml").read_text(), case(tensor=count))
    assert (found["driver"].status, found["driver"].seen) == ("ok", "580.159.04, for CUDA up to 13.0")
    assert (found["GPUs"].status, found["GPUs"].seen) == ("ok", seen)


def test_a_node_of_a_cluster_has_its_part() -> None:
    nodes = tuple(Node(name=f"gpu-{number}", address=f"10.0.0.{number}") for number in (1, 2))
    spec = gpu("vllm", tensor=4).model_copy(update={"cluster": Cluster(nodes=nodes, gpus_per_node=2)})
    assert results(SMI, Case(spec, "10.0.0.1", Path()))["GPUs"].status == "ok"
    spec = gpu("vllm", tensor=8).model_copy(update={"cluster": Cluster(nodes=nodes, gpus_per_node=4)})
    found = results(SMI, Case(spec, "10.0.0.1", Path()))["GPUs"]
    assert (found.status, "cluster.gpus_per_node is 4" in found.todo) == ("fail", True)


def test_a_driver_that_is_too_old_for_the_image() -> None:
    assert results(SMI.replace("590.44.01", "580.159.04"), case("trtllm"))["driver"].status == "ok"
    old = SMI.replace("590.44.01", "525.85.12")
    assert results(old)["driver"].status == "ok"
    found = results(old, case("trtllm"))["driver"]
    assert found.status == "fail"
    assert "update it to 580 or newer" in found.todo
    found = results(SMI.replace("590.44.01", "570.86.10"), case("trtllm"))["driver"]
    assert (found.status, "CUDA compat libraries" in found.todo) == ("warn", True)


@pytest.mark.parametrize(
    ("was", "becomes", "words"),
    [
        ("<dram_uncorrectable>0", "<dram_uncorrectable>4", "uncorrectable memory errors (dram_uncorrectable 4)"),
        ("<remapped_row_failure>No", "<remapped_row_failure>Yes", "could not replace a bad row"),
        ("<remapped_row_pending>No", "<remapped_row_pending>Yes", "with its next reset"),
        ("<gpu_recovery_action>None", "<gpu_recovery_action>Reset", "asks for recovery: Reset"),
        ("thermal_slowdown>Not Active", "thermal_slowdown>Active", "is slowed by heat"),
        ("power_brake_slowdown>Not Active", "power_brake_slowdown>Active", "is slowed by its power supply"),
        ("<current_link_width>16x", "<current_link_width>8x", "has 8x of 16x PCIe lanes"),
        ("<state>Completed", "<state>In Progress", "not in its NVLink fabric (In Progress, Success)"),
        ("<status>Success", "<status>Insufficient Resources", "not in its NVLink fabric"),
        ("<current_mig>Disabled", "<current_mig>Enabled", "is divided (MIG)"),
    ],
)
def test_a_gpu_that_is_unfit(was: str, becomes: str, words: str) -> None:
    first, second = SMI.split("</gpu>", 1)
    assert was in second
    found = results(f"{first}</gpu>{second.replace(was, becomes)}")["GPUs"]
    assert found.status == "fail"
    assert found.seen.startswith("2 × NVIDIA H100")
    assert "GPU 1 " in found.seen
    assert words in found.seen
    assert "GPU 0" not in found.seen


def test_gpus_without_a_fabric_or_ecc_are_well() -> None:
    plain = (
        SMI.replace(">Completed<", ">N/A<")
        .replace(">Success<", ">N/A<")
        .replace("<dram_uncorrectable>0", "<dram_uncorrectable>N/A")
    )
    assert results(plain)["GPUs"].status == "ok"


def test_fewer_gpus_than_the_engine_takes() -> None:
    found = results(SMI, case("vllm", tensor=8, pipeline=2))["GPUs"]
    assert found.status == "warn"
    assert "engine.parallel takes 16" in found.todo


def test_gpus_that_differ() -> None:
    found = results(SMI.replace("NVIDIA H100 80GB HBM3", "NVIDIA L4", 1))["GPUs"]
    assert (found.status, found.seen) == ("warn", "1 × NVIDIA L4 (80 GiB), 1 × NVIDIA H100 80GB HBM3 (80 GiB)")


def test_no_driver() -> None:
    (found,) = gpus.checks(case(), ABSENT)
    assert (found.status, found.seen) == ("fail", "nvidia-smi is not installed")
    (found,) = gpus.checks(Case(cpu(), "", Path()), ABSENT)
    assert (found.status, found.seen) == ("skipped", "nvidia-smi is not installed; runtime openvino needs no GPU")
    (found,) = gpus.checks(case(), Said(text="NVIDIA-SMI has failed"))
    assert (found.status, found.seen) == ("fail", "nvidia-smi said nothing that is XML")


def test_a_driver_without_gpus() -> None:
    found = results(SMI[: SMI.index("\t<gpu ")] + "</nvidia_smi_log>")["GPUs"]
    assert (found.status, found.seen) == ("fail", "none")


@pytest.mark.parametrize(
    ("recording", "status", "seen"),
    [
        ("topo-h100-8", "ok", "8 GPUs, NV18 between them; each has a network card on its PCIe switch"),
        (
            "topo-a100-pcie-4",
            "warn",
            "4 GPUs, NV4 and SYS between them; no network card on the PCIe switch of GPU0, GPU1, GPU2, GPU3",
        ),
        ("topo-l4-2", "warn", "2 GPUs, PHB between them"),
        ("topo-h100-1", "skipped", "1 GPU: nothing to connect"),
        ("topo-h200-2", "ok", "2 GPUs, NV18 between them"),
    ],
)
def test_topology(recording: str, status: str, seen: str) -> None:
    found = topology.check(case(), Said(text=(RECORDED / f"{recording}.txt").read_text()))
    assert (found.status, found.seen) == (status, seen)


def test_the_pairs_without_nvlink_are_named() -> None:
    found = topology.check(case(), Said(text=(RECORDED / "topo-a100-pcie-4.txt").read_text()))
    assert "GPU0–GPU2 SYS, GPU0–GPU3 SYS, GPU1–GPU2 SYS, GPU1–GPU3 SYS" in found.todo


def test_a_link_that_is_down_shows_as_fewer() -> None:
    text = (RECORDED / "topo-h100-8.txt").read_text().replace("NV18", "NV17", 1)
    found = topology.check(case(), Said(text=text))
    assert found.status == "warn"
    assert "nvidia-smi nvlink -s" in found.todo


def test_no_topology() -> None:
    assert topology.check(case(), ABSENT).status == "skipped"
    assert topology.check(case(), Said(error="nvidia-smi: broken")).status == "warn"
