"""How much is measured and for how long: what the options of ``make compare`` come to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """One for the whole comparison, so that every engine gets the same."""

    rounds: int = 2  # each starts every server anew, in turn
    seconds: float = 8.0  # that a timed cell lasts at least
    input_tokens: int = 64
    output_tokens: int = 64
    streams: tuple[int, ...] = (1, 4, 16)  # at once
    prompts: tuple[int, ...] = (32, 128, 512, 1024)  # lengths for TTFT, as far as the deployment takes them
    windows: int = 96  # positions of teacher forcing
    greedy: int = 8  # prompts whose greedy answer is compared
    greedy_tokens: int = 32  # of each answer
    recall: tuple[int, ...] = (256, 512, 1024)  # lengths of the context that hides something
    schemas: int = 8
    slo: str = "ttft<500ms,tpot<60ms"
    step_s: float = 12.0  # of load at one rate
    capacity_s: float = 150.0  # for the whole search of a capacity; 0: none
    clients: int = 1  # processes that send
    beside: bool = False  # an engine alone and in our ensemble at once, in turns; not one after the other

    def measured(self) -> dict[str, object]:
        """What a figure depends on."""
        return {name: value for name, value in vars(self).items() if name != "rounds"}


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
