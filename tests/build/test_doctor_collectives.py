"""What of the doctor's collectives needs torch and no second rank; here, as torch is only where engines are built."""

import pytest
import torch

from deploy.doctor.comm.collectives import differs
from deploy.doctor.comm.rank import missing


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
