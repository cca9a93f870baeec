"""The bare ContinuousBatchingPipeline, timed: what the ensemble is measured against (make bench).

``python -m python_backend.openvino.raw CONFIG ENGINE`` reads one JSON round a line from stdin,
``{"prompts": [[ids…], …], "max_tokens": n}``, and answers with one line of JSON: for each prompt its
greedy ``ids``, and the ``times``, in seconds from the round's start, at which they came.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from contract.manifest import load_manifest
from contract.sampling import SamplingParams
from contract.spec import load_spec
from python_backend.openvino.engine import load_pipeline
from python_backend.openvino.sampling import generation_config


def run_round(pipeline: Any, prompts: list[list[int]], max_tokens: int, eos: tuple[int, ...]) -> dict[str, Any]:
    """Generate exactly ``max_tokens`` for every prompt at once."""
    config = generation_config(SamplingParams(max_tokens=max_tokens, ignore_eos=True), eos, seed=0)
    begun = time.perf_counter()
    handles = [
        pipeline.add_request(number, ov.Tensor(np.array([prompt], dtype=np.int64)), config)
        for number, prompt in enumerate(prompts)
    ]
    ids: list[list[int]] = [[] for _ in prompts]
    times: list[list[float]] = [[] for _ in prompts]
    while pipeline.has_non_finished_requests():
        pipeline.step()
        now = time.perf_counter() - begun
        for handle, tokens, stamps in zip(handles, ids, times, strict=True):
            while handle.can_read():
                for generated in handle.read().values():
                    tokens.extend(generated.generated_ids)
                    stamps.extend([now] * len(generated.generated_ids))
    return {"ids": ids, "times": times}


def main() -> None:
    """Serve rounds until stdin ends."""
    spec, engine = load_spec(Path(sys.argv[1])), Path(sys.argv[2])
    manifest = load_manifest(engine)
    pipeline = load_pipeline(engine, spec, manifest)
    print("ready", flush=True)
    for line in sys.stdin:
        round_ = json.loads(line)
        answer = run_round(pipeline, round_["prompts"], round_["max_tokens"], manifest.eos_token_ids)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
