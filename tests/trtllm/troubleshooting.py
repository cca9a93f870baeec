"""docs/troubleshooting.md, out of the tables that the tests walk: ``python -m tests.trtllm.troubleshooting``."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from build.trtllm.causes import KNOWN
from tests.trtllm.mismatched import MISMATCHES
from tests.trtllm.wrong import WRONG

PAGE = Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md"
_HEAD = """\
# Troubleshooting TensorRT-LLM

<!-- Made by python -m tests.trtllm.troubleshooting from the tables that the tests walk; edit those. -->

What runtime `trtllm` refuses, in the words that you see, each with its way out.
[TensorRT-LLM](tensorrt-llm.md) is the guide.
"""
_CONFIGS = """
## Configs
Said by every command, before anything is fetched; the file and the line come before it.
"""
_CHECKPOINTS = """
## Checkpoints
Said by `make engine`, by the checkpoint's JSON files alone: of a repository on the hub they come before the weights.
"""
_MACHINES = """
## Engines and machines
Said by `make check` and `make serve`, before any weight is read. ENGINE is the engine's folder.
"""
_BUILDS = """
## Builds that fail in the container
Said by `make engine`, with the line of the log that tells; the whole log is in `engines/NAME/.work/trtllm.log`.
A server that does not start has the same lines in `.conch/NAME/server.log`.
"""
_SERVERS = """
## Servers that end
Read in TensorRT-LLM's sources, and tried on a double of it alone: no rank of ours has ever died on a GPU.
"""
_ENDED = (
    (
        "A server or a rank that dies, on one machine",
        "REASON; restart 1 in 0.25 s. Every process of the old server is killed and gone before: ranks have sessions "
        "of their own, and the new one measures how much of the GPU they left",
    ),
    (
        "A server or a rank that dies, under trtllm-llmapi-launch",
        "NAME ended: REASON, and the ranks of trtllm-llmapi-launch wait for it alone. End the job on every machine, "
        "and start it anew. (A launcher whose task fails may wait on: scancel, or kill mpirun)",
    ),
    (
        "MPI_ERR_SPAWN at a start",
        "MPI could not start the process of a GPU. What srun or mpirun left in the environment is forgotten by itself; "
        "where a container's confinement is the cause, TLLM_WORKER_USE_SINGLE_PROCESS=1 needs no such process for one "
        "GPU. It is not our default: tokens and engine then share an interpreter, and there are no statistics, "
        "so there is no conch_kv_cache_usage_ratio",
    ),
)


def page() -> str:
    """The whole page."""
    configs = ((case.title, case.said) for case in WRONG if case.model is None)
    checkpoints = ((case.title, case.said) for case in WRONG if case.model is not None)
    machines = ((case.title, case.said) for case in MISMATCHES)
    builds = ((meaning[0].upper() + meaning[1:], fix) for _, meaning, fix in KNOWN)
    sections = (
        (_CONFIGS, configs),
        (_CHECKPOINTS, checkpoints),
        (_MACHINES, machines),
        (_BUILDS, builds),
        (_SERVERS, _ENDED),
    )
    return _HEAD + "".join(line for head, cases in sections for line in _table(head, cases))


def _table(head: str, cases: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield f"{head}\n| what is wrong | what you are told |\n|---|---|\n"
    for title, said in cases:
        yield f"| {title} | {said} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
