"""TensorRT-LLM's knobs: those of NVIDIA's performance guide. An engine has the batch and the step built into it."""

from contract.engines.knobs import Knob, Seen, Settings, batch, knob, step
from contract.sections import Sections

_OPTIONS = "engine.trtllm"


def knobs(spec: Sections) -> tuple[Knob, ...]:
    """The batch, the step, the scheduler, the cache; of an engine its profiles, of pytorch its graphs."""
    built = spec.engine.trtllm.backend == "tensorrt"
    own = (
        knob(spec, f"{_OPTIONS}.multiple_profiles", (True, False), "quick at any batch, slow to build", rebuilt=True)
        if built
        else knob(spec, f"{_OPTIONS}.cuda_graphs", (None, True, False), "a slow start and quick tokens")
    )
    policies = ("guaranteed_no_evict", "max_utilization")
    return (
        batch(spec, rebuilt=built),
        step(spec, (1024, 2048, 4096, 8192, 16384), rebuilt=built),
        knob(spec, f"{_OPTIONS}.scheduler", policies, "more at once, some of it paused and taken up again"),
        knob(spec, f"{_OPTIONS}.kv_cache.memory_fraction", (0.85, 0.9, 0.95), "room for more requests"),
        knob(spec, f"{_OPTIONS}.kv_cache.reuse", (True, False), "beginnings that come again, or no look-up"),
        knob(spec, f"{_OPTIONS}.kv_cache.precision", ("auto", "fp8"), "twice the cache", rebuilt=built, answers=True),
        own,
    )


def guesses(spec: Sections, seen: Seen) -> tuple[Settings, ...]:
    """What needs no other engine first."""
    soon: Settings = {"gateway.max_queue_s": seen.wait_s}
    return (
        {f"{_OPTIONS}.scheduler": "max_utilization", f"{_OPTIONS}.kv_cache.memory_fraction": 0.95, **soon},
        {"streaming.max_itl_ms": 100, **soon},
        {"limits.max_num_tokens": 2048, **soon},
        {"limits.max_num_tokens": 16384, "limits.max_batch_size": spec.limits.max_batch_size * 2, **soon},
    )
