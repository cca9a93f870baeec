"""Tokens/s of one stream and of many at once, and the time to the first token by the length of the prompt."""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from loadtests.compare.doors import Door
from loadtests.compare.effort import Effort
from loadtests.compare.entrants import Entrant
from loadtests.fleet import Requests
from loadtests.lean import Timeline
from loadtests.timelines import itl_and_gaps, quantiles, speed, tokens_per_response, ttft, whole

Prompts = Callable[[int, int, int], Requests]  # so many, of so many tokens, for answers of so many

_FEWEST, _MOST = 3, 40  # times that a burst is repeated
_TEXT_TOKENS = 8  # of an answer, so that there is text: a token of a random prompt's may be half a character


def burst(door: Door, prompts: Prompts, effort: Effort, streams: int) -> dict[str, Any]:
    """So many streams at once, again and again for as long as a cell lasts; the first burst warms up."""

    def once(max_tokens: int = effort.output_tokens) -> list[Timeline]:
        return whole(door.ask(prompts(streams, effort.input_tokens, max_tokens), streams))

    once(8)
    loads = list(_while(effort.seconds, once))
    lines = [line for load in loads for line in load]
    return {
        "tokens_per_s": round(statistics.median(map(speed, loads)), 1),
        "ttft_ms": quantiles(ttft(lines)),
        **itl_and_gaps(lines),
        "tokens_per_response": tokens_per_response(lines),
        "bursts": len(loads),
    }


def first_token(door: Door, prompts: Prompts, effort: Effort, entrant: Entrant) -> dict[str, Any]:
    """TTFT of one prompt alone, by its length."""
    lengths = [length for length in effort.prompts if length <= entrant.spec.limits.max_input_len]
    found = {}
    for length in lengths:

        def once(length: int = length) -> list[Timeline]:
            return whole(door.ask(prompts(1, length, _TEXT_TOKENS), 1))

        times = [taken for lines in _while(effort.seconds / len(lengths), once) for taken in ttft(lines)]
        found[length] = {"ms": quantiles(times)["p50"], "prompts": len(times)}
    return {"by_length": found}


def _while(seconds: float, once: Callable[[], list[Timeline]]) -> Iterator[list[Timeline]]:
    """A few times at least, then until the time is over."""
    ends = time.monotonic() + seconds
    for number in range(_MOST):
        if number >= _FEWEST and time.monotonic() > ends:
            return
        yield once()
