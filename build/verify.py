"""How far the engine is from the Hugging Face fp32 reference, on text that the project ships.

Three measures, each of the very engine that will serve:

- greedy agreement: the share of greedily generated tokens before the first one that differs, through
  the serving pipeline (continuous batching, paged KV cache);
- top-1 agreement and perplexity ratio: teacher forcing over the text, the engine's logits against the
  reference's, position by position.
"""

import math
from pathlib import Path

from build import reference
from build.builders import Builder
from build.replay import Script
from build.steps import console
from contract.errors import VerifyError
from contract.manifest import Measured
from contract.sections import Verify
from contract.spec import Deployment

TEXT = Path(__file__).with_name("verify_text.txt")
WINDOW = 256  # tokens of text a forward pass
GREEDY_TOKENS = 48


def measure(builder: Builder, config: Path, spec: Deployment, checkpoint: Path, engine: Path) -> Measured:
    """Compare an engine with its checkpoint.

    Raises:
        BuildError: the engine does not run.
    """
    script = _script(checkpoint)
    theirs = reference.replay(checkpoint, script)
    ours = builder.replay(config, spec, engine, script)
    pairs = [
        (token, said[position])
        for row, said in zip(ours.top1, theirs.top1, strict=True)
        for position, token in row.items()
    ]
    agreed = sum(_common_prefix(a, b) for a, b in zip(ours.greedy, theirs.greedy, strict=True))
    ratio = None
    if ours.loss is not None and theirs.loss is not None:
        ratio = round(math.exp(ours.loss - theirs.loss), 4)
    return Measured(
        greedy_agreement=round(agreed / sum(map(len, theirs.greedy)), 4),
        top1_agreement=round(sum(a == b for a, b in pairs) / len(pairs), 4),
        perplexity_ratio=ratio,
        tokens_compared=len(pairs),
    )


def judge(measured: Measured, limits: Verify) -> None:
    """Refuse an engine beyond the config's thresholds.

    Raises:
        VerifyError: with every measure that fails, and both numbers.
    """
    faults = [
        f"{name} is {value}, verify.{limit_name} is {limit}"
        for name, value, limit_name, limit, bad in (
            (
                "greedy agreement",
                measured.greedy_agreement,
                "min_greedy_agreement",
                limits.min_greedy_agreement,
                measured.greedy_agreement < limits.min_greedy_agreement,
            ),
            (
                "top-1 agreement",
                measured.top1_agreement,
                "min_top1_agreement",
                limits.min_top1_agreement,
                measured.top1_agreement < limits.min_top1_agreement,
            ),
            (
                "perplexity ratio",
                measured.perplexity_ratio,
                "max_perplexity_ratio",
                limits.max_perplexity_ratio,
                measured.perplexity_ratio is not None and not measured.perplexity_ratio <= limits.max_perplexity_ratio,
            ),
        )
        if bad
    ]
    if faults:
        raise VerifyError(
            f"the engine does not pass: {'; '.join(faults)}", fix="Use a higher engine.precision, or other limits"
        )


def _script(checkpoint: Path) -> Script:
    """The project's text in windows, and the beginnings of its paragraphs as prompts."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    paragraphs = TEXT.read_text(encoding="utf-8").split("\n\n")
    ids = tokenizer.encode("\n\n".join(paragraphs), add_special_tokens=False, verbose=False)
    windows = [ids[at : at + WINDOW] for at in range(0, len(ids) - 1, WINDOW)]
    prompts = [tokenizer.encode(" ".join(paragraph.split()[:24]), add_special_tokens=False) for paragraph in paragraphs]
    return Script(windows, prompts, GREEDY_TOKENS)


def _common_prefix(ours: list[int], theirs: list[int]) -> int:
    return next((at for at, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b), len(theirs))


def show(measured: Measured) -> None:
    """One line for people."""
    perplexity = "" if measured.perplexity_ratio is None else f", perplexity × {measured.perplexity_ratio:.4f}"
    console.print(
        f"  greedy agreement {measured.greedy_agreement:.1%}, top-1 {measured.top1_agreement:.2%}{perplexity} "
        f"over {measured.tokens_compared} tokens"
    )
