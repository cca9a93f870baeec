"""Tokens of a request, as chat and text completions tell them: at the end, or with each chunk."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.answer import Answer
from gateway.schema.common import StreamOptions

_json = msgspec.json.Encoder().encode


def usage(answers: Sequence[Answer], n: int = 0) -> dict[str, Any]:
    """Each prompt once, all of the answers.

    Args:
        n: answers to each prompt; 0: all are to one.
    """
    n = n or len(answers)
    # On the way, some of the answers to a prompt may not have begun.
    prompt = sum(max(answer.prompt_tokens for answer in answers[at : at + n]) for at in range(0, len(answers), n))
    completion = sum(answer.completion_tokens for answer in answers)
    reasoning = sum(answer.reasoning_tokens for answer in answers)
    counted: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    cached = [max((answer.cached_tokens or 0) for answer in answers[at : at + n]) for at in range(0, len(answers), n)]
    if all(answer.cached_tokens is not None for answer in answers):
        counted["prompt_tokens_details"] = {"cached_tokens": sum(cached)}
    return counted | ({"completion_tokens_details": {"reasoning_tokens": reasoning}} if reasoning else {})


@dataclass(frozen=True)
class StreamUsage:
    """What the chunks of one stream say of its tokens."""

    options: StreamOptions | None
    answers: Sequence[Answer]
    n: int = 0

    @property
    def each(self) -> bool:
        """Every chunk has the usage so far."""
        return self.options is not None and self.options.continuous_usage_stats

    def tail(self) -> bytes:
        """What ends a chunk."""
        if self.each:
            return b',"usage":%b}\n\n' % _json(usage(self.answers, self.n))
        return b',"usage":null}\n\n' if self.options and self.options.include_usage else b"}\n\n"

    def last(self, head: bytes) -> bytes:
        """The chunk after all others; b"" where none is wanted."""
        if self.options is None or not self.options.include_usage:
            return b""
        return b'data: %b,"choices":[],"usage":%b}\n\n' % (head, _json(usage(self.answers, self.n)))
