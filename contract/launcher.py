"""What started this process: trtllm-llmapi-launch, or an srun or mpirun of which TensorRT-LLM's MPI must know nothing.

Only the standard library: the builder's script runs this in an image that has nothing of ours.
"""

import os

# What trtllm-llmapi-launch itself takes from its task, but UCX_*: the image sets UCX_MEM_EVENTS for everybody.
_LEFT_BY_OTHERS = ("OMPI_", "PMIX_", "PMI_", "SLURM_")


def launched() -> bool:
    """Whether this is the task of trtllm-llmapi-launch, which has a rank on every GPU."""
    return bool(os.environ.get("TLLM_SPAWN_PROXY_PROCESS"))


def forget_launcher() -> None:
    """Where ranks are to be started, take away what would make MPI look for those of somebody else's job."""
    if not launched():
        for name in [name for name in os.environ if name.startswith(_LEFT_BY_OTHERS)]:
            del os.environ[name]
