"""What runs where TensorRT-LLM is: in NVIDIA's image, with this repository mounted and nothing of it installed.

``python3 -m build.trtllm.inside JOB`` carries out a job that build/trtllm/builder.py wrote: build an engine and
save it, or load one and answer prompts. Lines that begin with ``@conch`` are for the builder; all others are
TensorRT-LLM's own. Standard library only.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from contract.engines.trtllm.calls import find, from_json, make
from contract.launcher import forget_launcher

STAGE = "@conch stage: "
FAILED = "@conch failed: "
_AT_ONCE = 64  # prompts in flight


def main() -> None:
    """Carry out the job that the first argument names."""
    job = json.loads(Path(sys.argv[1]).read_text())
    try:
        tell("importing TensorRT-LLM")
        report = _versions()
        if report["tensorrt_llm"] != job["version"]:
            raise RuntimeError(f"TensorRT-LLM here is {report['tensorrt_llm']}, the project speaks to {job['version']}")
        if job["save"]:
            _build(job)
        if job["prompts"]:
            report["answers"] = _answer(job)
        Path(job["report"]).write_text(json.dumps(report))
    except Exception as error:
        print(f"{FAILED}{type(error).__name__}: {error}", flush=True)
        raise


def tell(stage: str) -> None:
    """Say what comes next."""
    print(f"{STAGE}{stage}", flush=True)


def _versions() -> dict[str, Any]:
    import tensorrt_llm

    report = {"tensorrt_llm": tensorrt_llm.__version__, "tensorrt": ""}
    try:
        import tensorrt
    except ImportError:  # later releases have none
        return report
    return report | {"tensorrt": tensorrt.__version__}


def _build(job: dict[str, Any]) -> None:
    tell("building the engine")
    llm = make(from_json(job["call"]))
    try:
        tell("saving the engine")
        llm.save(job["save"])
    finally:
        llm.shutdown()  # without it the processes of a multi-GPU build stay


def _answer(job: dict[str, Any]) -> list[list[int]]:
    tell("loading the engine")
    llm = make(from_json(job["call"]))
    try:
        tell(f"answering {len(job['prompts'])} prompts")
        return asyncio.run(_all(llm, job))
    finally:
        llm.shutdown()


async def _all(llm: Any, job: dict[str, Any]) -> list[list[int]]:
    """Greedy answers, in order."""
    room = asyncio.Semaphore(_AT_ONCE)
    sampling = find("SamplingParams")

    async def one(prompt: list[int], max_tokens: int) -> list[int]:
        params = sampling(max_tokens=max_tokens, end_id=job["end_id"], ignore_eos=True, detokenize=False)
        async with room:
            result = await llm.generate_async(inputs=prompt, sampling_params=params).aresult()
        return list(result.outputs[0].token_ids)

    return await asyncio.gather(*(one(prompt, max_tokens) for prompt, max_tokens in job["prompts"]))


# The processes of a multi-GPU build import this module again.
if __name__ == "__main__":
    forget_launcher()
    main()
