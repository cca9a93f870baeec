"""What is asked: conversations drawn from a seed and a number, so that every worker and every rerun asks the same."""

import json
import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from loadtests.load.fault import LoadError
from loadtests.load.lengths import Lengths
from loadtests.load.prose import prose
from loadtests.load.schedule import Arrival

QUESTIONS = Path(__file__).with_name("prompts") / "questions.jsonl"
TRACE_BLOCK_TOKENS = 512  # of a Mooncake trace's hash_ids
_FURTHER = (
    "Say that again in one sentence.",
    "What would be the opposite view?",
    "Give one example of it.",
    "And why is that so?",
)
_SCHEMA = {
    "type": "object",
    "properties": {
        "topic": {"type": "string", "maxLength": 12},
        "answer": {"type": "string", "maxLength": 20},
        "sure": {"type": "boolean"},
    },
    "required": ["topic", "answer", "sure"],
    "additionalProperties": False,
}
_TOOLS = (
    {
        "type": "function",
        "function": {
            "name": "tide_table",
            "description": "When the tide is high at a harbour.",
            "parameters": {
                "type": "object",
                "properties": {"harbour": {"type": "string", "maxLength": 24}, "day": {"type": "integer"}},
                "required": ["harbour", "day"],
                "additionalProperties": False,
            },
        },
    },
)


@dataclass(frozen=True)
class Ask:
    """One request, in no transport's words."""

    messages: tuple[dict[str, str], ...]
    max_tokens: int
    kind: str = "chat"  # chat, json or tool
    turn: int = 0
    cancel_after: int | None = None  # chunks of content; none: read to the end
    schema: dict[str, Any] | None = None
    tools: tuple[dict[str, Any], ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)  # further fields, sent as they are

    @property
    def text(self) -> str:
        """The conversation for a model that takes plain text."""
        if len(self.messages) == 1:
            return self.messages[0]["content"]
        return "\n".join(f"{message['role']}: {message['content']}" for message in self.messages) + "\nassistant:"


@dataclass(frozen=True)
class Workload:
    """The mix of requests."""

    prompts: tuple[str, ...]
    answer_tokens: Lengths
    prompt_tokens: Lengths | None = None  # none: the prompts as they are
    same_prompts: bool = False  # else each prompt begins with words of its own, so that no prefix cache knows it
    shared_prefixes: int = 0
    shared_prefix_tokens: int = 256
    turns: int = 1
    json_share: float = 0.0
    tool_share: float = 0.0
    cancel_share: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)
    seed: int = 1

    def opening(self, number: int, arrival: Arrival | None = None) -> Ask:
        """The first request of a conversation.

        Args:
            arrival: what a trace says of it.
        """
        rng = random.Random(f"request-{self.seed}-{number}")
        drawn = rng.random()
        kind = "json" if drawn < self.json_share else "tool" if drawn < self.json_share + self.tool_share else "chat"
        tokens = self.answer_tokens.draw(rng)
        wanted = self.prompt_tokens.draw(rng) if self.prompt_tokens else None
        blocks: tuple[int, ...] = ()
        if arrival is not None:
            tokens, wanted = arrival.output_tokens or tokens, arrival.prompt_tokens or wanted
            blocks = arrival.blocks
        messages: list[dict[str, str]] = []
        if self.shared_prefixes:
            shared = f"prefix-{self.seed}-{number % self.shared_prefixes}"
            messages.append({"role": "system", "content": prose(self.shared_prefix_tokens, shared)})
        messages.append({"role": "user", "content": self._prompt(rng, number, wanted, blocks)})
        ask = Ask(tuple(messages), tokens, kind, cancel_after=self._cancel(rng), extra=self.extra)
        if kind == "json":
            return replace(ask, schema=_SCHEMA)
        return replace(ask, tools=_TOOLS) if kind == "tool" else ask

    def further(self, ask: Ask, answer: str, number: int) -> Ask | None:
        """The next turn of a conversation, with all that was said before; None after the last."""
        turn = ask.turn + 1
        if turn >= self.turns or ask.cancel_after is not None:
            return None
        rng = random.Random(f"request-{self.seed}-{number}-{turn}")
        said = ({"role": "assistant", "content": answer or "…"}, {"role": "user", "content": rng.choice(_FURTHER)})
        tokens = self.answer_tokens.draw(rng)
        return replace(
            ask, messages=(*ask.messages, *said), max_tokens=tokens, turn=turn, cancel_after=self._cancel(rng)
        )

    def _prompt(self, rng: random.Random, number: int, wanted: int | None, blocks: tuple[int, ...]) -> str:
        if blocks:
            left = wanted or len(blocks) * TRACE_BLOCK_TOKENS
            sizes = [max(0, min(TRACE_BLOCK_TOKENS, left - at * TRACE_BLOCK_TOKENS)) for at in range(len(blocks))]
            return " ".join(prose(size, f"block-{block}") for block, size in zip(blocks, sizes, strict=True) if size)
        own = "" if self.same_prompts else f"Note {rng.getrandbits(32):08x}. "
        if wanted is None:
            return own + rng.choice(self.prompts)
        # Without words of its own a prompt of this length is one of eight.
        seed = f"prompt-{self.seed}-{rng.randrange(8) if self.same_prompts else number}"
        return own + prose(wanted - (10 if own else 0), seed)

    def _cancel(self, rng: random.Random) -> int | None:
        return rng.randint(1, 10) if rng.random() < self.cancel_share else None


def read_prompts(path: Path) -> tuple[str, ...]:
    """Prompts from a file: JSON lines with ``prompt``, or one prompt a line.

    Raises:
        LoadError: no such file, or none in it.
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"--prompts: {path} cannot be read: {error}") from None
    if not lines:
        raise LoadError(f"--prompts: {path} has no prompt", fix='Give one a line, or {"prompt": "…"} a line')
    if path.suffix != ".jsonl":
        return tuple(lines)
    prompts = []
    for number, line in enumerate(lines, start=1):
        try:
            prompt = json.loads(line)["prompt"]
            if not isinstance(prompt, str) or not prompt:
                raise ValueError("prompt must be text")
        except (ValueError, KeyError, TypeError) as error:
            raise LoadError(f'--prompts: {path}:{number}: {error!r}; a line is {{"prompt": "…"}}') from None
        prompts.append(prompt)
    return tuple(prompts)
