"""The correctness canary: questions with known greedy answers, asked again and again through the load.

A server that is fast because it answers wrongly is caught here. Without a file of known answers they are learnt from
the server itself, one by one, before the load begins.
"""

import json
from collections.abc import Callable
from pathlib import Path

import gevent
import msgspec

from loadtests.load.asking import asked
from loadtests.load.fault import LoadError
from loadtests.load.rows import Outcome, Row
from loadtests.load.streams.target import Clock, Stream
from loadtests.load.workload import Ask

QUESTIONS = (
    "What is the capital of France?",
    "What is the capital of Japan?",
    "What color is the sky on a clear day?",
)
_TOKENS = 8
_ANSWERED = (Outcome.COMPLETE, Outcome.EMPTY)  # a model may end a text at once, which is an answer too


class Sighting(msgspec.Struct):
    """One canary that came back."""

    at: float
    prompt: str
    expected: str
    got: str
    outcome: str

    @property
    def same(self) -> bool:
        """Whether it said what it should; one that got no answer says nothing about correctness."""
        return self.outcome not in _ANSWERED or self.got == self.expected


def known_answers(path: Path | None, stream: Stream, clock: Clock) -> dict[str, str]:
    """From the file, or from the quiet server.

    Raises:
        LoadError: the file cannot be read, or the server does not answer.
    """
    if path is not None:
        try:
            lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
            return {str(line["prompt"]): str(line["answer"]) for line in lines}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LoadError(f"--canaries: {path}: {error!r}") from None
    learnt = {}
    for prompt in QUESTIONS:
        text, row = _ask(stream, prompt, clock)
        if row.outcome not in _ANSWERED:
            raise LoadError(
                f"before the load, a single request got no answer ({row.outcome}: {row.detail})",
                fix="Is --host right, and the server up?",
            )
        learnt[prompt] = text
    return learnt


def watch(
    known: dict[str, str], every_s: float, seconds: float, ask: tuple[Stream, Clock], seen: Callable[[Sighting], None]
) -> None:
    """Ask one after the other until the load ends."""
    stream, clock = ask
    number = 0
    prompts = list(known)
    gevent.sleep(max(0.0, every_s / 2 - clock()))
    while clock() < seconds:
        prompt = prompts[number % len(prompts)]
        due = clock() + every_s
        at = round(clock(), 3)
        text, row = _ask(stream, prompt, clock)
        seen(Sighting(at, prompt, known[prompt], text, str(row.outcome)))
        number += 1
        gevent.sleep(max(0.0, due - clock()))


def _ask(stream: Stream, prompt: str, clock: Clock) -> tuple[str, Row]:
    now = clock()
    row = Row(number=-1, kind="canary", intended=now, sent=now)
    text, _ = asked(stream, Ask(({"role": "user", "content": prompt},), _TOKENS), row, clock)
    return text, row
