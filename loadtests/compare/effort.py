"""How much is measured and for how long: what the options of ``make compare`` come to."""

from dataclasses import dataclass, field
from typing import Any

ALONE, ENSEMBLE, HTTP, DIRECT, GATEWAY = WAYS = ("alone", "ensemble", "http", "direct", "gateway")
# The last five in the first round alone: a second would say the same, or take too long.
BURST, TTFT, MEMORY, *ONCE = MEASURES = ("burst", "ttft", "memory", "greedy", "top1", "json", "recall", "capacity")


def _option(default: object, about: str, name: str = "", among: tuple[str, ...] = ()) -> Any:
    """A field that ``make compare`` has an option for, of this name or of its own."""
    return field(default=default, metadata={"about": about, "name": name, "among": among})


@dataclass(frozen=True)
class Effort:
    """One for the whole comparison, so that every engine gets the same."""

    rounds: int = _option(2, "of all servers, each started anew, in turn")
    seconds: float = _option(8.0, "that a timed cell lasts at least")
    input_tokens: int = _option(64, "prompt tokens", "input")
    output_tokens: int = _option(64, "answer tokens", "output")
    streams: tuple[int, ...] = _option((1, 4, 16), "at once")
    prompts: tuple[int, ...] = _option((32, 128, 512, 1024), "lengths for TTFT, as far as the deployment takes them")
    windows: int = 96  # positions of teacher forcing
    greedy: int = 8  # prompts whose greedy answer is compared
    greedy_tokens: int = 32  # of each answer
    recall: tuple[int, ...] = _option((256, 512, 1024), "lengths of the context that hides something")
    schemas: int = _option(8, "questions whose answers must follow one")
    slo: str = _option("ttft<500ms,tpot<60ms", "what the capacity holds")
    step_s: float = _option(12.0, "of load at one rate", "step-seconds")
    capacity_s: float = _option(150.0, "for one search; 0: none", "capacity-seconds")
    clients: int = _option(1, "processes that send; more than 1 where there are many cores")
    ways: tuple[str, ...] = _option(
        (ALONE, ENSEMBLE, DIRECT, GATEWAY), "of asking; the engine alone is the measure of the others", among=WAYS
    )
    measures: tuple[str, ...] = _option(MEASURES, "that are taken", among=MEASURES)
    beside: bool = _option(False, "each engine alone and in our ensemble at once, in turns; memory for two")

    def measured(self) -> dict[str, object]:
        """What a figure depends on."""
        return {name: value for name, value in vars(self).items() if name not in ("rounds", "ways", "measures")}


QUICK = Effort(
    rounds=1,
    seconds=2.0,
    output_tokens=32,
    streams=(1, 8),
    prompts=(32, 256),
    windows=24,
    greedy=3,
    greedy_tokens=16,
    recall=(256,),
    schemas=4,
    step_s=6.0,
    capacity_s=45.0,
)
