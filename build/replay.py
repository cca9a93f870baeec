"""What an engine is asked for its verification, and what it says."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Script:
    """What an engine is asked for its verification."""

    windows: list[list[int]]  # text; asked for the most likely token after each of its tokens
    prompts: list[list[int]]  # asked to go on
    max_tokens: int  # after each prompt, whatever comes


@dataclass(frozen=True)
class Replay:
    """What an engine says where the reference has spoken."""

    top1: list[dict[int, int]]  # of each window: position → the most likely next token
    loss: float | None  # mean negative log likelihood of the windows, nats a token; none: the engine does not tell
    greedy: list[list[int]]  # after each prompt


_STRIDE = 4  # of the windows every fourth position is asked for: each is a request of its own
Ask = Callable[[list[tuple[list[int], int]]], list[list[int]]]  # prompts, and how many tokens after each → the tokens


def replay_by_prefixes(script: Script, ask: Ask) -> Replay:
    """Teacher forcing of an engine that only generates: a request of one token for each prefix, and so no loss."""
    positions = [range(0, len(window), _STRIDE) for window in script.windows]
    prefixes = [
        (window[: position + 1], 1)
        for window, asked in zip(script.windows, positions, strict=True)
        for position in asked
    ]
    ahead = iter(ask(prefixes + [(prompt, script.max_tokens) for prompt in script.prompts]))
    top1 = [{position: next(ahead)[0] for position in asked} for asked in positions]
    return Replay(top1, None, list(ahead))
