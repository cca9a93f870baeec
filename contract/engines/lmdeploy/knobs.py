"""LMDeploy's knobs: of its engine's configuration what both of its engines have; which of them runs is no knob."""

from contract.engines.knobs import Knob, Seen, Settings, batch, knob, step, usual_guesses
from contract.sections import Sections

_OPTIONS = "engine.lmdeploy"


def knobs(spec: Sections) -> tuple[Knob, ...]:
    """The batch, the step, the cache's share and bits, prefix caching."""
    found = [
        batch(spec),
        step(spec, (2048, 4096, 8192, 16384)),
        knob(spec, f"{_OPTIONS}.cache_max_entry_count", (0.6, 0.7, 0.8, 0.9), "room for more requests"),
        knob(spec, f"{_OPTIONS}.prefix_caching", (True, False), "beginnings that come again, or no look-up"),
        knob(spec, f"{_OPTIONS}.quant_policy", (0, 8, 4), "twice or four times the cache", answers=True),
    ]
    if spec.engine.lmdeploy.eager_mode:
        found.append(knob(spec, f"{_OPTIONS}.eager_mode", (False,), "a slow start and quick tokens"))
    return tuple(found)


def guesses(spec: Sections, seen: Seen) -> tuple[Settings, ...]:
    """Steps of both ends, then a batch within the objectives."""
    captured: Settings = {f"{_OPTIONS}.eager_mode": False} if spec.engine.lmdeploy.eager_mode else {}
    return usual_guesses(
        spec,
        seen,
        always=captured,
        roomy={},
        small_cache={f"{_OPTIONS}.quant_policy": 8},
    )
