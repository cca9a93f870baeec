"""The processes of the GPUs and what they tell of themselves: 1.2.1's executor/{executor,proxy,rpc}*.py and llmapi/.

Even one GPU has a process of its own, by MPI_Comm_spawn, but with logits kept or TLLM_WORKER_USE_SINGLE_PROCESS=1.
Statistics are asked of rank 0, which looks for new ones every 0.1 s until the timeout; whoever asks waits, and waits
for ever if rank 0 is gone. Of an engine in the asking process itself none ever come.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any

from python_backend.protocol import Engine

_OF_OTHER_JOBS = ("OMPI_", "PMIX_", "PMI_", "SLURM_")


class Ranks:
    """Those of one LLM."""

    def __init__(self, world_size: int, returns_logits: bool) -> None:
        alone = returns_logits or os.environ.get("TLLM_WORKER_USE_SINGLE_PROCESS") == "1"
        self._here = world_size == 1 and alone
        self._told = 0
        if self._here or os.environ.get("TLLM_SPAWN_PROXY_PROCESS"):
            return
        if any(name.startswith(_OF_OTHER_JOBS) for name in os.environ):  # likely, and not seen
            raise RuntimeError("MPI_ERR_SPAWN: could not spawn processes")

    def ask(self, engine: Engine | None, timeout: float | None) -> list[dict[str, Any]]:
        """The iterations since the last question."""
        began = time.monotonic()
        while True:
            told = [] if self._here or engine is None else self.fetch_stats(engine)
            if told or timeout is None or time.monotonic() - began >= timeout:
                return told
            time.sleep(0.1)

    def fetch_stats(self, engine: Engine) -> list[dict[str, Any]]:
        """What rank 0 has at this moment."""
        stats = engine.stats()
        if stats.steps == self._told:
            return []
        self._told = stats.steps
        cache = {"maxNumBlocks": 1000, "usedNumBlocks": round(1000 * (stats.kv_cache_usage or 0))}
        told = {"iter": stats.steps, "numActiveRequests": stats.active, "numQueuedRequests": stats.waiting}
        return [told | {"kvCacheStats": cache}]


async def iterate(told: list[dict[str, Any]], timeout: float | None) -> AsyncIterator[dict[str, Any]]:  # noqa: ASYNC109
    """An IterationResult: all that is there, and its end once nothing has come for the length of the timeout."""
    for iteration in told:
        yield iteration
    await asyncio.sleep(timeout or 0)
