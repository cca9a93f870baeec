"""An answer outlives its server: where one goes in the middle, another goes on, and the client sees nothing of it.

What was generated is known by its ids, of which the text that the client has is so many characters. Behind the prompt
they are the prompt of the rest; the stage that takes them gives out only what is new (contract.tensors, resumed_ids).
"""

import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing

from clients.request import Delta, Inputs
from contract.errors import DeadlineExceeded, InvalidRequest, Unavailable
from contract.sampling import bar_to_resuming

Begin = Callable[[Inputs, Iterable[str]], AsyncGenerator[Delta, None]]


async def resumed(begin: Begin, inputs: Inputs, outputs: Iterable[str]) -> AsyncGenerator[Delta, None]:
    """The deltas of one answer, to the one with the finish reason.

    Args:
        begin: chooses a server, at once, and gives its deltas for these inputs with these outputs. It is asked again
            where that server went, and raises Unavailable, itself, when it has no other.

    Raises:
        Unavailable: no server took it, or the one that answered went and none can go on.
    """
    began = time.monotonic()
    bar = bar_to_resuming(inputs)
    wanted = dict.fromkeys((*outputs, "output_ids")) if inputs.get("stream") and not bar else outputs
    ids: list[int] = [*inputs.get("resumed_ids", ())]  # where others had begun
    characters: int = inputs.get("resumed_chars", 0)
    last: Delta | None = None
    while last is None or not last.finish_reason:
        broken = last is not None
        if broken and bar:
            raise _gone(bar)
        try:
            deltas = begin(_rest(inputs, ids, characters, time.monotonic() - began), wanted)
        except Unavailable:
            if broken:
                raise _gone() from None
            raise
        try:
            async with aclosing(deltas):
                async for last in deltas:
                    ids += last.output_ids
                    characters += len(last.text)
                    yield last
        except Unavailable:
            continue
        except InvalidRequest:  # of a server that is older, or whose engine cannot go on
            if broken:
                raise _gone() from None
            raise


def seconds_left(deadline: float | None) -> float | None:
    """Until a deadline on time.monotonic(); None where there is none.

    Raises:
        DeadlineExceeded: it has passed.
    """
    left_s = None if deadline is None else deadline - time.monotonic()
    if left_s is not None and left_s <= 0:
        raise DeadlineExceeded("the deadline passed while servers went", field="timeout_ms")
    return left_s


def _rest(inputs: Inputs, ids: list[int], characters: int, since_s: float) -> Inputs:
    """What is still to be asked for."""
    rest = dict(inputs)
    if ids:
        rest |= {"resumed_ids": [*ids], "resumed_chars": characters}
    if timeout_ms := inputs.get("timeout_ms"):
        rest["timeout_ms"] = max(1, timeout_ms - round(since_s * 1000))
    return rest


def _gone(bar: str = "") -> Unavailable:
    return Unavailable(
        "the server went in the middle of this answer" + (", which another cannot go on with" if bar else ""),
        field=bar,
        fix="Try again: another one takes it",
    )
