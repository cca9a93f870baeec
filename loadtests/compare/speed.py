"""Tokens/s of one stream and of many at once, and the time to the first token by the length of the prompt."""

import random
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from loadtests.compare.doors import Door, Requests, whole
from loadtests.compare.effort import Effort
from loadtests.compare.entrants import Entrant
from loadtests.lean import Timeline
from loadtests.pipeline import itl, quantiles

_FEWEST, _MOST = 3, 40  # times that a burst is repeated
_TEXT_TOKENS = 8  # of an answer, so that there is text: a token of a random prompt's may be half a character


class Fresh:
    """Prompts that no prefix cache has seen: of this entrant, this way, this round."""

    def __init__(self, entrant: Entrant, *seed: object) -> None:
        self._tokens = entrant.tokens
        self._rng = random.Random(repr((entrant.name, *seed)))

    def requests(self, count: int, prompt_tokens: int, max_tokens: int) -> Requests:
        """So many of one length."""
        return [
            {"prompt": self._rng.choices(self._tokens, k=prompt_tokens), "max_tokens": max_tokens} for _ in range(count)
        ]


def burst(door: Door, fresh: Fresh, effort: Effort, streams: int) -> dict[str, Any]:
    """So many streams at once, again and again for as long as a cell lasts; the first burst warms up."""
    whole(fresh.requests(streams, effort.input_tokens, 8), door.ask, streams)
    loads = list(_while(effort.seconds, lambda: _burst(door, fresh, effort, streams)))
    lines = [line for load in loads for line in load]
    return {
        "tokens_per_s": round(statistics.median(_speed(load) for load in loads), 1),
        "ttft_ms": quantiles([line.deltas[0][0] - line.sent for line in lines]),
        **itl(lines),
        "tokens_per_response": round(_tokens(lines) / sum(len(line.deltas) for line in lines), 2),
        "bursts": len(loads),
    }


def first_token(door: Door, fresh: Fresh, effort: Effort, entrant: Entrant) -> dict[str, Any]:
    """TTFT of one prompt alone, by its length."""
    lengths = [length for length in effort.prompts if length <= entrant.spec.limits.max_input_len]
    found = {}
    for length in lengths:

        def once(length: int = length) -> list[Timeline]:
            return whole(fresh.requests(1, length, _TEXT_TOKENS), door.ask, 1)

        times = [
            line.deltas[0][0] - line.sent for lines in _while(effort.seconds / len(lengths), once) for line in lines
        ]
        found[length] = {"ms": quantiles(times)["p50"], "prompts": len(times)}
    return {"by_length": found}


def _burst(door: Door, fresh: Fresh, effort: Effort, streams: int) -> list[Timeline]:
    return whole(fresh.requests(streams, effort.input_tokens, effort.output_tokens), door.ask, streams)


def _while(seconds: float, once: Callable[[], list[Timeline]]) -> Iterator[list[Timeline]]:
    """A few times at least, then until the time is over."""
    ends = time.monotonic() + seconds
    for number in range(_MOST):
        if number >= _FEWEST and time.monotonic() > ends:
            return
        yield once()


def _speed(lines: list[Timeline]) -> float:
    took = max(line.deltas[-1][0] for line in lines) - min(line.sent for line in lines)
    return _tokens(lines) / took


def _tokens(lines: list[Timeline]) -> int:
    return sum(count for line in lines for _, count in line.deltas)
