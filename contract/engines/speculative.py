"""Speculative decoding in vLLM and SGLang: tokens are guessed ahead, and the model checks a run of them in one step.

What it takes is what it would have said, so answers do not change; how many it takes decides whether the step, which
computes more, was worth it. ``conch_draft_tokens_total`` and ``conch_draft_tokens_accepted_total`` tell.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from contract.frozen import Frozen

DRAFT = "draft"  # an engine's folder of the draft model

Guessed = Annotated[int, Field(ge=1, le=64)]


class Ngram(Frozen):
    """What followed the last tokens where they stood before is guessed to follow again: no model, text that repeats."""

    kind: Literal["ngram"]
    tokens: Guessed = 4  # guessed ahead in one step
    longest_match: int = Field(default=4, ge=2, le=64)  # of the last tokens, how many are looked up at most


class Head(Frozen):
    """A small model over the large one's features, trained for it (EAGLE, arXiv 2401.15077, 2503.01840)."""

    kind: Literal["eagle", "eagle3"]
    model: Path  # the folder of its checkpoint
    tokens: Guessed = 3


class Mtp(Frozen):
    """The layers for it that the checkpoint itself has (multi-token prediction: DeepSeek-V3, Qwen3-Next, GLM-4.5)."""

    kind: Literal["mtp"]
    tokens: Guessed = 1


Speculative = Annotated[Ngram | Head | Mtp, Field(discriminator="kind")]
