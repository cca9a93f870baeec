"""What another launcher left in the environment, which TensorRT-LLM's MPI would take for its own job."""

import os

import pytest

from contract.launcher import forget_launcher, launched


def test_what_a_launcher_left_is_forgotten_unless_it_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "SLURM_JOB_ID", "UCX_MEM_EVENTS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TLLM_SPAWN_PROXY_PROCESS", "1")
    forget_launcher()
    assert launched() and os.environ["PMIX_RANK"] == "1"
    monkeypatch.delenv("TLLM_SPAWN_PROXY_PROCESS")
    forget_launcher()
    assert not [name for name in os.environ if name.startswith(("OMPI_", "PMIX_", "PMI_", "SLURM_"))]
    assert os.environ["UCX_MEM_EVENTS"] == "1"  # the image's own
