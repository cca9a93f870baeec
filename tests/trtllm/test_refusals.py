"""What cannot be is refused before any container and any weight, in the words of docs/troubleshooting.md."""

from pathlib import Path

import pytest

from build.trtllm.causes import KNOWN, cause
from build.trtllm.inside import FAILED
from contract.driver import driver_caution, driver_fault
from contract.engines.trtllm.images import PINNED, oldest_driver
from serving.checks import warnings
from tests.trtllm import troubleshooting
from tests.trtllm.mismatched import HERE, MISMATCHES, Mismatch, engine_manifest, found
from tests.trtllm.specs import spec
from tests.trtllm.wrong import MODEL, WRONG, Wrong, refusal


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case.title)
def test_wrong_configs(case: Wrong, tmp_path: Path) -> None:
    said = refusal(case, tmp_path)
    if case.model is None:
        assert "\n" not in said  # one fault, one line
        where, _, said = said.partition(": ")
        assert where.startswith(f"{tmp_path / 'wrong.yaml'}:")
        assert int(where.rpartition(":")[2]) > 1  # the line of its key
    assert said == case.said


def test_the_right_config(tmp_path: Path) -> None:
    assert refusal(Wrong("", "", model={}), tmp_path) == ""


@pytest.mark.parametrize("case", MISMATCHES, ids=lambda case: case.title)
def test_mismatches(case: Mismatch, tmp_path: Path) -> None:
    assert found(case, tmp_path) == [case.said]


def test_the_fitting_machine(tmp_path: Path) -> None:
    assert found(Mismatch("", ""), tmp_path) == []


@pytest.mark.parametrize(
    ("driver", "gpu", "refused", "cautioned"),
    [
        ("580.159.04", "NVIDIA H200", False, False),
        ("580.159.04", "NVIDIA GeForce RTX 4090", False, False),
        ("570.86.10", "NVIDIA H200", False, True),
        ("535.216.01", "NVIDIA A10", False, True),
        ("570.86.10", "NVIDIA GeForce RTX 4090", True, False),
        ("560.35.03", "NVIDIA H200", True, False),
        ("", "NVIDIA H200", False, False),
    ],
)
def test_drivers(driver: str, gpu: str, refused: bool, cautioned: bool) -> None:
    """Branch 580 runs CUDA 13 by itself; older ones, of data-centre GPUs alone, by the compat libraries."""
    oldest = oldest_driver(PINNED)
    assert (driver_fault(driver, oldest, [gpu]) != "", driver_caution(driver, oldest, [gpu]) != "") == (
        refused,
        cautioned,
    )


def test_an_old_driver_that_will_do_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho '0, GPU-0, NVIDIA H200, 9.0, 143771, 570.86.10'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert warnings(spec()) == [
        "the driver is 570.86.10, older than the container's 580: data-centre GPUs run it by the image's CUDA compat "
        "libraries (/usr/local/cuda/compat). Update the driver if CUDA does not start"
    ]


def test_an_engine_of_another_runtime(tmp_path: Path) -> None:
    from contract.engines.trtllm.check import mismatches

    manifest = engine_manifest(spec(), "").model_copy(update={"gpu": None})
    (said,) = mismatches(tmp_path, manifest, spec(), HERE)
    assert said.startswith(f"{tmp_path} was not built for a GPU")


def test_several_faults_are_told_at_once(tmp_path: Path) -> None:
    case = Mismatch("", "", {"gpus": (), "shm_bytes": 0, "driver": "100.1"})
    assert len(found(case, tmp_path)) == 3


def test_the_page_is_what_the_tables_say() -> None:
    assert troubleshooting.PAGE.read_text(encoding="utf-8") == troubleshooting.page(), (
        "run python -m tests.trtllm.troubleshooting"
    )


LOGS = {
    "the container gets no GPU": "docker: Error response from daemon: could not select device driver with capabilities",
    "the driver is too old for the image": "RuntimeError: CUDA driver version is insufficient for CUDA runtime version",
    "a GPU has too little memory for the build": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
    "the host has too little memory for the build": "Killed",
    "the disk is full": "OSError: [Errno 28] No space left on device",
    "TensorRT-LLM builds no engine of this architecture": (
        f"{FAILED}NotImplementedError: The given huggingface model architecture X is not supported in TRT-LLM yet"
    ),
    "TensorRT-LLM refuses the checkpoint's quantization": "NotImplementedError: Unsupported quantization_config",
    "the calibration dataset could not be read": "ConnectionError: Couldn't reach 'cnn_dailymail' on the Hub",
    "the image could not be pulled": "docker: Error response from daemon: manifest unknown",
    "a file may not be read or written inside the container": "PermissionError: [Errno 13] Permission denied: '/x'",
    "MPI cannot start the process of a GPU": "mpi4py.MPI.Exception: MPI_ERR_SPAWN: could not spawn processes",
    "a GPU is held by another process": "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
    "a rank died while it started": "RuntimeError: Executor worker died during initialization",
    "the GPUs cannot talk to each other": "RuntimeError: NCCL error in: /src/x.cpp:12, unhandled system error",
}


@pytest.mark.parametrize("meaning", [meaning for _, meaning, _ in KNOWN])
def test_a_failed_build_shows_its_cause(meaning: str) -> None:
    """Out of hundreds of lines, the one that tells."""
    noise = [f"[TRT-LLM] [I] layer {number}" for number in range(400)]
    said, fix = cause([*noise, LOGS[meaning], *noise], 1)
    assert said.startswith(meaning) and fix
    assert len(said) < 400


def test_a_build_that_fails_otherwise_shows_its_last_error() -> None:
    log = ["[TRT] [E] early", "ValueError: the cause", "  File x", "bye"]
    assert cause(log, 1) == ("ValueError: the cause", "")
    assert cause(["one", "", "last words", ""], 3) == ("last words", "")
    assert cause([], 9) == ("exit status 9", "")
    assert cause([], 137)[0] == "the host has too little memory for the build"


def test_weights_and_cache_are_counted(tmp_path: Path) -> None:
    """Against sums done by hand: 8.2 billion weights of 2 bytes; 2 × 8 heads × 128 × 2 bytes × 36 layers a token."""
    from build.trtllm.fit import read_model, sizes

    refusal(Wrong("", "", model={}), tmp_path)
    model = read_model(tmp_path / "checkpoint")
    deployment = spec(limits={"max_seq_len": 4096})
    assert sizes(model, deployment) == (16_400_000_000, 4096 * 2 * 8 * 128 * 2 * 36)
    deployment = spec({"kv_cache": {"precision": "fp8"}}, precision="fp8", engine={"parallel": {"tensor": 2}})
    assert sizes(model, deployment) == (16_400_000_000 / 4, 4096 * 2 * 8 * 128 * 36 / 2)
    assert MODEL["num_key_value_heads"] == 8
