"""What a machine with GPUs has, from what its nvidia-smi says."""

import os
from pathlib import Path

import pytest

from contract.gpu_machine import FoundGpu, find_gpus, this_gpu_machine

H100 = "{}, GPU-{}, NVIDIA H100 80GB HBM3, 9.0, 81559, 590.44.01"
H200 = "{}, GPU-{}, NVIDIA H200, 9.0, 143771, 590.44.01"


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An nvidia-smi to be written."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "nvidia-smi"


def says(smi: Path, *lines: str, status: int = 0) -> None:
    echoes = "\n".join(f"echo '{line}'" for line in lines)
    smi.write_text(f"#!/bin/sh\n{echoes}\nexit {status}\n")
    smi.chmod(0o755)


def test_gpus_and_driver(smi: Path) -> None:
    says(smi, H100.format(0, "a"), H200.format(1, "b"))
    assert find_gpus() == (
        (FoundGpu("NVIDIA H100 80GB HBM3", 90, 79), FoundGpu("NVIDIA H200", 90, 140)),
        "590.44.01",
    )


@pytest.mark.parametrize(
    ("visible", "count"), [("1", 1), ("0,1", 2), ("GPU-b", 1), ("", 0), (" GPU-a , 1 ", 2), ("7", 0)]
)
def test_only_those_that_are_visible(smi: Path, monkeypatch: pytest.MonkeyPatch, visible: str, count: int) -> None:
    says(smi, H100.format(0, "a"), H200.format(1, "b"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert len(find_gpus()[0]) == count


def test_memory_that_is_not_told(smi: Path) -> None:
    says(smi, "0, GPU-a, NVIDIA GB10, 12.1, [N/A], 590.44.01")
    assert find_gpus()[0] == (FoundGpu("NVIDIA GB10", 121, 0),)


@pytest.mark.parametrize("lines", [(), ("No devices were found",)])
def test_no_gpu(smi: Path, lines: tuple[str, ...]) -> None:
    says(smi, *lines)
    assert find_gpus() == ((), "")
    says(smi, "NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver", status=9)
    assert find_gpus() == ((), "")


def test_this_machine_can_be_described(smi: Path) -> None:
    says(smi, status=9)
    machine = this_gpu_machine()
    assert (machine.gpus, machine.driver, machine.tensorrt_llm, machine.tensorrt) == ((), "", "", "")
    assert machine.shm_bytes > 0
