"""vLLM's knobs: those that its guide to optimization and its own ``benchmarks/auto_tune`` turn."""

from contract.engines.knobs import Knob, Seen, Settings, batch, knob, step, usual_guesses
from contract.gpu_machine import find_gpus
from contract.sections import Sections

_OPTIONS = "engine.vllm"


def knobs(spec: Sections) -> tuple[Knob, ...]:
    """The scheduler's two limits, memory, prefix caching; what of precision ``verify`` may pass."""
    found = [batch(spec), step(spec, (1024, 2048, 4096, 8192, 16384))]
    if find_gpus()[0]:
        share = (0.85, 0.9, 0.94)
        found.append(knob(spec, f"{_OPTIONS}.gpu_memory_utilization", share, "room for more requests, or for graphs"))
    else:
        found.append(knob(spec, "limits.kv_cache_gib", (1, 2, 4), "room for more requests at once"))
    found.append(knob(spec, f"{_OPTIONS}.prefix_caching", (True, False), "beginnings that come again, or no look-up"))
    if spec.engine.vllm.enforce_eager:
        found.append(knob(spec, f"{_OPTIONS}.enforce_eager", (False,), "a slow start and quick tokens"))
    found.append(knob(spec, f"{_OPTIONS}.kv_cache_dtype", ("auto", "fp8"), "twice the cache", answers=True))
    if spec.engine.vllm.quantization is None:
        found.append(knob(spec, f"{_OPTIONS}.quantization", ("fp8",), "half of each weight to read", answers=True))
    if spec.engine.precision == "fp32":
        found.append(
            knob(spec, "engine.precision", ("bf16",), "half of each weight to read", rebuilt=True, answers=True)
        )
    return tuple(found)


def guesses(spec: Sections, seen: Seen) -> tuple[Settings, ...]:
    """Steps of both ends, then a batch within the objectives; with graphs, where the deployment has none."""
    captured: Settings = {f"{_OPTIONS}.enforce_eager": False} if spec.engine.vllm.enforce_eager else {}
    return usual_guesses(
        spec,
        seen,
        always=captured,
        roomy={f"{_OPTIONS}.gpu_memory_utilization": 0.94},
        small_cache={f"{_OPTIONS}.kv_cache_dtype": "fp8"},
    )
