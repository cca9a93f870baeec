"""Before a version gets any traffic: it answers, it says what the current one says, and it is not much slower.

Its answers are held against the current one's own: the next token after each of the texts that the current one wrote.
A share is a sample, so what is refused is one that would be below the limit by chance once in a hundred times.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from math import sqrt
from typing import Any, TypeVar

from clients.grpc import AsyncClient
from clients.request import inputs_of
from contract.errors import InvalidRequest, ServeError

T = TypeVar("T")
Text = tuple[list[int], list[int]]  # a prompt's ids, and those of what a version wrote after it

PROMPTS = (
    "The capital of France is",
    "Water boils at a temperature of",
    "def fibonacci(n):\n",
    "Once upon a time there was a",
    "The three primary colors are",
    "To bake bread, you first",
    "In the year 1969, two astronauts",
    "The opposite of expensive is",
)
_TOKENS = 32  # of each text
_AT_ONCE = 4
_ROUNDS = 7  # of the two speeds; the first is not counted
_SLOWEST = 1.5  # times the current one's: the traffic judges more finely
_SURE = 2.33  # standard deviations, one-sided: 1 %
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Speed:
    """Medians of one greedy answer after another, in seconds."""

    ttft_s: float
    tpot_s: float


async def smoke(client: AsyncClient) -> None:
    """The contract in a handful of requests.

    Raises:
        ServeError: naming what does not hold.
    """
    text, tokens = PROMPTS[0], 8
    greedy: dict[str, Any] = {"max_tokens": tokens, "ignore_eos": True, "timeout_s": _PATIENCE_S}
    deltas = [delta async for delta in client.stream(text, **greedy)]
    whole = await client.generate(text, **greedy)
    if not deltas or deltas[-1].finish_reason != "length":
        raise ServeError("its streamed answer does not end at max_tokens with finish_reason length")
    if whole.num_output_tokens != tokens:
        raise ServeError(f"max_tokens is {tokens}, and its answer has {whole.num_output_tokens} tokens")
    if not whole.text or not any(delta.text for delta in deltas):
        raise ServeError("its answer has no text")
    try:
        await client.generate(text, max_tokens=4, temperature=-1.0, timeout_s=_PATIENCE_S)
    except InvalidRequest as refusal:
        if refusal.field != "temperature":
            raise ServeError(f"it blames {refusal.field!r} for a temperature of -1") from None
    else:
        raise ServeError("it takes a temperature of -1")


async def known_texts(client: AsyncClient) -> list[Text]:
    """What a version writes after each prompt, greedily."""

    async def written(prompt: str) -> Text:
        tokens = await client.tokenize(inputs_of(prompt, {}, stream=False), timeout_s=_PATIENCE_S)
        return tokens.ids, await _written(client, tokens.ids)

    return await _few_at_once(map(written, PROMPTS))


async def agreement(client: AsyncClient, texts: list[Text], *, weights: bool = True) -> tuple[float, int]:
    """The share of the tokens of these texts that a version would have written there itself, and how many they are.

    Args:
        weights: its next token depends on all tokens before it, and not on the prompt alone.
    """
    if not weights:
        same = [
            one == other
            for prompt, answer in texts
            for one, other in zip(await _written(client, prompt), answer, strict=True)
        ]
        return sum(same) / len(same), len(same)

    async def agrees(ids: list[int], wanted: int) -> bool:
        answer = await client.generate(input_ids=ids, max_tokens=1, ignore_eos=True, timeout_s=_PATIENCE_S)
        return answer.output_ids == (wanted,)

    asked = [(prompt + answer[:at], answer[at]) for prompt, answer in texts for at in range(len(answer))]
    agreed = await _few_at_once(agrees(*each) for each in asked)
    return sum(agreed) / len(agreed), len(agreed)


def check_agreement(share: float, tokens: int, least: float) -> None:
    """Refuse a version that says something else.

    Raises:
        ServeError: its share is below ``least`` (the spec's verify.min_top1_agreement), surely.
    """
    if share + _SURE * sqrt(max(share * (1 - share), 1e-9) / tokens) < least:
        raise ServeError(
            f"its next token is the current version's in {share:.1%} of {tokens} places; "
            f"verify.min_top1_agreement is {least:g}",
            fix="Where it is meant to answer otherwise, release it with AGREEMENT=0",
        )


async def speeds(current: AsyncClient, candidate: AsyncClient) -> tuple[Speed, Speed]:
    """Both versions' speed for one answer at a time, in turns within the same minutes."""
    ours, theirs = list[Speed](), list[Speed]()
    for number in range(_ROUNDS):
        for client, seen in ((current, ours), (candidate, theirs)):
            seen.append(await _speed(client, f"{number}. {PROMPTS[number % len(PROMPTS)]}"))
    return _median(ours[1:]), _median(theirs[1:])


def check_speed(current: Speed, candidate: Speed) -> None:
    """Refuse a version that is much slower.

    Raises:
        ServeError: naming which of the two times.
    """
    for name, ours, theirs in (
        ("its first token takes", current.ttft_s, candidate.ttft_s - 0.01),
        ("each token takes", current.tpot_s, candidate.tpot_s),
    ):
        if theirs > _SLOWEST * ours:
            raise ServeError(f"{name} {theirs / ours:.1f} × the current version's time, one answer at a time")


async def _written(client: AsyncClient, prompt: list[int]) -> list[int]:
    answer = await client.generate(input_ids=prompt, max_tokens=_TOKENS, ignore_eos=True, timeout_s=_PATIENCE_S)
    return list(answer.output_ids)


async def _speed(client: AsyncClient, prompt: str) -> Speed:
    begun = time.monotonic()
    first, tokens = 0.0, 0
    async for delta in client.stream(prompt, max_tokens=_TOKENS, ignore_eos=True, timeout_s=_PATIENCE_S):
        first = first or time.monotonic()
        tokens += len(delta.output_ids)
    return Speed(first - begun, (time.monotonic() - first) / max(1, tokens - 1))


def _median(speeds: list[Speed]) -> Speed:
    return Speed(statistics.median(each.ttft_s for each in speeds), statistics.median(each.tpot_s for each in speeds))


async def _few_at_once(asks: Iterable[Awaitable[T]]) -> list[T]:
    """The answers, in order: the traffic that runs meanwhile is not to notice."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def within(ask: Awaitable[T]) -> T:
        async with room:
            return await ask

    return await asyncio.gather(*map(within, asks))
