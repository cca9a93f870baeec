"""What the doubles of SGLang and LMDeploy have in common: a recorded API to keep to, and OpenVINO for the tokens."""

import asyncio
import copy
import dataclasses
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

# In a replica of an image (tests/images), OpenVINO is out of everybody else's sight.
sys.path += filter(None, [os.environ.get("DOUBLE_PATH")])

from contract.errors import from_wire
from contract.manifest import load_manifest
from contract.sampling import SamplingParams
from contract.spec import Deployment
from contract.tensors import FinishReason
from python_backend.openvino.engine import OpenVinoEngine
from python_backend.protocol import Output, Stats

ENGINE = "DOUBLE_ENGINE"  # the OpenVINO engine's folder
REQUIRED = "<required>"


def recorded(package: str) -> dict[str, Any]:
    """An engine's API, as tests/runtimes/record.py wrote it."""
    api: dict[str, Any] = json.loads((Path(__file__).parent / "api" / f"{package}.json").read_text())["api"]
    return api


def made(package: str, name: str) -> Any:
    """A recorded class: the same names and defaults, and nothing else is taken."""
    fields: list[Any] = []
    for field, about in recorded(package)[name].items():
        if about["default"] == REQUIRED:
            fields.append((field, Any))
        else:
            default = None if str(about["default"]).startswith("<") else about["default"]
            fields.append((field, Any, dataclasses.field(default_factory=partial(copy.copy, default))))
    return dataclasses.make_dataclass(name, fields, kw_only=True)


def check_call(package: str, name: str, given: dict[str, Any]) -> None:
    """Refuse an argument that the recorded function has not."""
    known = recorded(package)[name]
    for argument in given:
        if argument not in known and "**" not in known:
            raise TypeError(f"{name}() got an unexpected keyword argument {argument!r}")


class Behind:
    """OpenVINO; what a request gains comes to whoever reads it, on the loop where the request was made."""

    def __init__(self, batch: int) -> None:
        folder = Path(os.environ[ENGINE]).resolve()
        limits = {"max_batch_size": batch, "max_seq_len": 2048, "max_num_tokens": 512}
        spec = {"name": "double", "source": {"kind": "path", "path": "/"}, "engine": {"precision": "int8"}}
        self.eos = load_manifest(folder).eos_token_ids
        self._queues: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Queue[Output]]] = {}
        self._keys = count(1)
        self._engine = OpenVinoEngine(folder, Deployment.model_validate(spec | {"limits": limits}))
        self._engine.start(self._take)

    def begin(self, ids: list[int], sampling: SamplingParams) -> int:
        """Queue a request."""
        key = next(self._keys)
        self._queues[key] = asyncio.get_running_loop(), asyncio.Queue()
        self._engine.submit(key, ids, sampling)
        return key

    async def read(self, key: int) -> AsyncIterator[Output]:
        """What it gains, step by step; the output with ``finish`` is its last."""
        queue = self._queues[key][1]
        try:
            while True:
                output = await queue.get()
                if output.finish == FinishReason.ERROR:
                    raise RuntimeError(str(from_wire(output.error)))
                yield output
                if output.finish:
                    return
        finally:
            self._queues.pop(key, None)

    def abort(self, key: int) -> None:
        """Stop a request."""
        self._engine.abort(key)

    def stats(self) -> Stats:
        """OpenVINO's."""
        return self._engine.stats()

    def stop(self) -> None:
        """Release it."""
        self._engine.stop()

    def _take(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            if asked := self._queues.get(output.key):
                loop, queue = asked
                loop.call_soon_threadsafe(queue.put_nowait, output)
