"""SGLang's knobs: those of its page on hyperparameter tuning that a deployment can say."""

from contract.engines.knobs import Knob, Seen, Settings, batch, knob, step, usual_guesses
from contract.sections import Sections

_OPTIONS = "engine.sglang"


def knobs(spec: Sections) -> tuple[Knob, ...]:
    """The batch, the pieces of a prompt, memory, kernels; what of precision ``verify`` may pass."""
    options = spec.engine.sglang
    found = [
        batch(spec),
        step(spec, (2048, 4096, 8192, 16384)),
        knob(spec, f"{_OPTIONS}.mem_fraction_static", (None, 0.8, 0.85, 0.9), "room for more requests, or for graphs"),
        knob(spec, f"{_OPTIONS}.prefix_caching", (True, False), "beginnings that come again, or no look-up"),
        knob(spec, f"{_OPTIONS}.kv_cache_dtype", ("auto", "fp8_e4m3"), "twice the cache", answers=True),
    ]
    if options.kt is None:
        kernels = (None, "flashinfer", "fa3", "triton")
        found.append(knob(spec, f"{_OPTIONS}.attention_backend", kernels, "kernels of attention", answers=True))
    if options.disable_cuda_graph:
        found.append(knob(spec, f"{_OPTIONS}.disable_cuda_graph", (False,), "a slow start and quick tokens"))
    if options.quantization is None:
        found.append(knob(spec, f"{_OPTIONS}.quantization", ("fp8",), "half of each weight to read", answers=True))
    return tuple(found)


def guesses(spec: Sections, seen: Seen) -> tuple[Settings, ...]:
    """Steps of both ends, then a batch within the objectives."""
    captured: Settings = {f"{_OPTIONS}.disable_cuda_graph": False} if spec.engine.sglang.disable_cuda_graph else {}
    return usual_guesses(
        spec,
        seen,
        always=captured,
        roomy={f"{_OPTIONS}.mem_fraction_static": 0.85},
        small_cache={f"{_OPTIONS}.kv_cache_dtype": "fp8_e4m3"},
    )
