"""What of a deployment may be tuned: settings that change how much it carries, not what it is for.

An engine declares its own beside its options: ``contract/engines/NAME/knobs.py`` has ``knobs(spec)`` and, as a search
of few trials should begin where somebody who knows the engine would, ``guesses(spec, seen)``. A knob names the field
that it sets, so what was tuned is a plain deployment. Contexts, GPUs and features stay as the deployment has them: they
are what it was asked for. Every setting is read at the server's start, so that much each of them needs.
"""

import functools
from dataclasses import dataclass

from contract.cores import cores
from contract.sections import Sections

Value = bool | int | float | str | None
Settings = dict[str, Value]  # field by its dotted path -> value

_BATCHES = tuple(eighths << doubled for doubled in range(8) for eighths in (4, 5, 6, 7))  # 4 to 896
_FURTHEST = 4  # times the deployment's own batch, and a sixteenth of it


@dataclass(frozen=True)
class Seen:
    """What guesses build on."""

    wait_s: float  # that a request may wait before its first token is late
    crowd: int  # requests in flight where the default carried most

    def together(self, spec: Sections) -> int:
        """How many a guess means to have in flight: the default's crowd; twice its batch where that was full."""
        own = spec.limits.max_batch_size
        return self.crowd if 2 * self.crowd <= own else 2 * own


@dataclass(frozen=True)
class Knob:
    """One field, and what is tried for it: the deployment's own value is among them."""

    field: str
    values: tuple[Value, ...]  # numbers in their order
    about: str  # what it trades for what
    rebuilt: bool = False  # the engine's bytes depend on it
    answers: bool = False  # answers do

    @property
    def ordered(self) -> bool:
        """Whether what lies between two values may be told from them."""
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.values)

    @property
    def by_make_engine(self) -> bool:
        """Whether make engine must build, or at least verify, before it is served."""
        return self.rebuilt or self.answers


def value_of(spec: Sections, field: str) -> Value:
    """What the deployment has there."""
    value: Value = functools.reduce(getattr, field.split("."), spec)  # type: ignore[assignment]
    return value


def knob(
    spec: Sections, field: str, values: tuple[Value, ...], about: str, *, rebuilt: bool = False, answers: bool = False
) -> Knob:
    """The knob of a field, with the deployment's own value among those that are tried."""
    found = Knob(field, tuple(dict.fromkeys((value_of(spec, field), *values))), about, rebuilt, answers)
    if not found.ordered:
        return found
    return Knob(field, tuple(sorted(found.values)), about, rebuilt, answers)  # type: ignore[type-var]


def batch(spec: Sections, *, rebuilt: bool = False) -> Knob:
    """Of every engine: how many requests are computed together."""
    own = spec.limits.max_batch_size
    values = tuple(size for size in _BATCHES if own <= 16 * size and size <= _FURTHEST * own)
    return knob(spec, "limits.max_batch_size", values, "more at once, each of them slower", rebuilt=rebuilt)


def step(spec: Sections, values: tuple[int, ...], *, rebuilt: bool = False) -> Knob:
    """Of every engine: how much of the waiting prompts goes into one step."""
    return knob(spec, "limits.max_num_tokens", values, "prompts sooner, gaps between tokens longer", rebuilt=rebuilt)


def usual_guesses(
    spec: Sections, seen: Seen, *, always: Settings, roomy: Settings, small_cache: Settings
) -> tuple[Settings, ...]:
    """Of engines with a scheduler on a GPU: steps of both ends, a batch within the objectives, then a larger one.

    Args:
        always: in each of them, as graphs where the deployment has none.
        roomy: beside the longest step.
        small_cache: the KV cache in fewer bits.
    """
    common: Settings = {"gateway.max_queue_s": seen.wait_s, **always}
    return (
        {"limits.max_num_tokens": 2048, **common},
        {"limits.max_num_tokens": 16384, **roomy, **common},
        {"limits.max_batch_size": seen.together(spec) * 5 // 4, "limits.max_num_tokens": 4096, **common},
        {"limits.max_batch_size": spec.limits.max_batch_size * 2, "streaming.max_itl_ms": 100, **common},
        {**small_cache, **common},
    )


def doors(spec: Sections, *, gateway: bool) -> tuple[Knob, ...]:
    """What lies before every engine.

    Args:
        gateway: requests come through it; else over Triton's own doors, where other settings count.
    """
    held = knob(spec, "streaming.max_itl_ms", (20, 50, 100), "fewer responses, each of more tokens")
    if not gateway:
        queue = tuple(spec.limits.max_batch_size // part for part in (8, 4, 2, 1))
        return held, knob(spec, "limits.max_queue_size", queue, "refused at once instead of late")
    section = "gateway"  # in one word with a field it could be the name of a module
    waits = knob(spec, f"{section}.max_queue_s", (0.1, 0.25, 0.5, 1.0, 2.0, 5.0), "refused at once instead of late")
    processes = tuple(count for count in (1, 2, 4, 8) if 4 * count <= cores())
    if not processes:
        return held, waits
    return held, waits, knob(spec, f"{section}.processes", processes, "cores for the gateway, or for what is behind it")
