"""A number hidden in pages of prose, and the question for it: does an engine still know the far end of its context?"""

import random
from dataclasses import dataclass

from tokenizers import Tokenizer

from loadtests.load.prose import prose


@dataclass(frozen=True)
class Hidden:
    """One place of one length."""

    tokens: int
    depth: float  # 0: the number is at the beginning
    prompt: list[int]
    number: str


def hidden(tokenizer: Tokenizer, tokens: int, depth: float) -> Hidden:
    """A prompt of so many tokens, or a few less."""
    number = str(random.Random(f"hidden-{tokens}-{depth}").randrange(10_000, 100_000))
    told = f" The number of the red locker is {number}."
    asked = " Which number has the red locker? The number of the red locker is"

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return found

    room = tokens - len(ids(told)) - len(ids(asked))
    pages = ids(prose(2 * tokens, f"pages-{tokens}-{depth}"))[: max(0, room)]
    at = int(depth * len(pages))
    return Hidden(tokens, depth, [*pages[:at], *ids(told), *pages[at:], *ids(asked)], number)
