"""How far the engine is from the Hugging Face fp32 reference, on text that the project ships.

Three measures, each of the very engine that will serve:

- greedy agreement: the share of greedily generated tokens before the first one that differs, through
  the serving pipeline (continuous batching, paged KV cache);
- top-1 agreement and perplexity ratio: teacher forcing over the text, the engine's logits against the
  reference's, position by position.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import psutil

from build.builders import Builder, Script
from build.steps import console
from contract.errors import VerifyError
from contract.manifest import Measured
from contract.spec import Deployment, Verify

TEXT = Path(__file__).with_name("verify_text.txt")
WINDOW = 256  # tokens of text a forward pass
GREEDY_TOKENS = 48


@dataclass(frozen=True)
class Reference:
    """What the fp32 model says."""

    windows: list[list[int]]  # the text, tokenized, in windows
    top1: list[list[int]]  # most likely next token at each position
    loss: float  # mean negative log likelihood a token, nats
    prompts: list[list[int]]
    greedy: list[list[int]]  # GREEDY_TOKENS after each prompt


def measure(builder: Builder, config: Path, spec: Deployment, checkpoint: Path, engine: Path) -> Measured:
    """Compare an engine with its checkpoint.

    Raises:
        BuildError: the engine does not run.
    """
    reference = _reference(checkpoint)
    replay = builder.replay(config, spec, engine, Script(reference.windows, reference.prompts, GREEDY_TOKENS))
    pairs = [
        (ours, theirs[position])
        for row, theirs in zip(replay.top1, reference.top1, strict=True)
        for position, ours in row.items()
    ]
    agreed = sum(_common_prefix(a, b) for a, b in zip(replay.greedy, reference.greedy, strict=True))
    return Measured(
        greedy_agreement=round(agreed / sum(map(len, reference.greedy)), 4),
        top1_agreement=round(sum(a == b for a, b in pairs) / len(pairs), 4),
        perplexity_ratio=None if replay.loss is None else round(math.exp(replay.loss - reference.loss), 4),
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


def _reference(checkpoint: Path) -> Reference:
    """Run the checkpoint in fp32 on the CPU.

    Raises:
        VerifyError: this machine has not the memory.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    # A checkpoint in 16 bits doubles; what is quantized grows more, and transformers then says so itself.
    needed = 2 * sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))
    available = psutil.virtual_memory().available
    if needed > available:
        raise VerifyError(
            f"the fp32 reference needs about {needed / 2**30:.0f} GiB of memory, {available / 2**30:.0f} are available",
            fix="Use a larger machine, or publish unverified with verify.reference: none",
        )
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    paragraphs = TEXT.read_text(encoding="utf-8").split("\n\n")
    ids = tokenizer.encode("\n\n".join(paragraphs), add_special_tokens=False, verbose=False)
    windows = [ids[at : at + WINDOW] for at in range(0, len(ids) - 1, WINDOW)]
    top1, losses = [], []
    prompts = [tokenizer.encode(" ".join(paragraph.split()[:24]), add_special_tokens=False) for paragraph in paragraphs]
    greedy = []
    with torch.inference_mode():
        for window in windows:
            logits = model(torch.tensor([window])).logits[0]
            top1.append(logits.argmax(-1).tolist())
            losses += torch.nn.functional.cross_entropy(
                logits[:-1], torch.tensor(window[1:]), reduction="none"
            ).tolist()
        for prompt in prompts:
            answer = model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=GREEDY_TOKENS,
                min_new_tokens=GREEDY_TOKENS,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )
            greedy.append(answer[0, len(prompt) :].tolist())
    return Reference(windows, top1, sum(losses) / len(losses), prompts, greedy)


def _common_prefix(ours: list[int], theirs: list[int]) -> int:
    return next((at for at, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b), len(theirs))


def show(measured: Measured) -> None:
    """One line for people."""
    perplexity = "" if measured.perplexity_ratio is None else f", perplexity × {measured.perplexity_ratio:.4f}"
    console.print(
        f"  greedy agreement {measured.greedy_agreement:.1%}, top-1 {measured.top1_agreement:.2%}{perplexity} "
        f"over {measured.tokens_compared} tokens"
    )
