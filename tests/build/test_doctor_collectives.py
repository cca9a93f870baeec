"""What of the doctor's collectives needs torch and no second rank; here, as torch is only where engines are built."""

import os
import sys

import pytest
import torch

from contract.errors import ConchError
from deploy.doctor.comm.collectives import differs
from deploy.doctor.comm.rank import as_mpirun_says, device_of, main, missing

RANK = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """That of no rank."""
    for name in RANK:
        monkeypatch.setenv(name, "")  # so that what the test leaves there is taken away
        monkeypatch.delenv(name)
    return monkeypatch


def test_a_difference_is_named() -> None:
    right = torch.arange(6, dtype=torch.float32)
    wrong = right.clone()
    wrong[4] = 40
    assert differs(right, right) == ""
    assert differs(wrong, right) == "1 of 6 values are wrong, the first at 4: 40 instead of 4"
    assert differs(torch.full_like(right, float("nan")), right).startswith("6 of 6 values are wrong")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_what_is_absent_has_a_reason() -> None:
    assert missing("gloo") == ""
    assert missing("nccl") == "NCCL needs a GPU, and torch sees none here"
    assert missing("mpi") == f"torch {torch.__version__} was built without MPI"


def ends(environment: pytest.MonkeyPatch, *words: str) -> int | str | None:
    """How a rank ends that is started so."""
    environment.setattr(sys, "argv", ["rank", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_a_rank_that_nobody_started(environment: pytest.MonkeyPatch) -> None:
    message = str(ends(environment))
    assert message.startswith("error: RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT not set. Start this with torchrun")


def test_a_head_that_does_not_answer(environment: pytest.MonkeyPatch) -> None:
    for name, value in RANK.items():
        environment.setenv(name, value)
    assert str(ends(environment, "--wait", "1")).startswith("error: the head at 127.0.0.1:1 cannot be reached: ")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_backend_that_is_absent_is_skipped(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (RANK | {"RANK": "0"}).items():
        environment.setenv(name, value)
    assert ends(environment, "--backend", "nccl") == 0
    assert "NCCL needs a GPU" in capsys.readouterr().out


def test_more_ranks_than_gpus(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RANK", "70")
    environment.setenv("LOCAL_RANK", "64")
    with pytest.raises(ConchError, match=r"rank 70 is number 64 on its node, which has \d+ GPUs"):
        device_of("nccl")


def test_what_mpirun_calls_a_rank(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OMPI_COMM_WORLD_RANK", "3")
    environment.setenv("PMI_SIZE", "4")
    as_mpirun_says()
    assert (os.environ["RANK"], os.environ["WORLD_SIZE"]) == ("3", "4")
