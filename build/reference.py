"""The Hugging Face fp32 model as if it were an engine: what every engine is compared with.

``python -m build.reference CHECKPOINT`` takes a :class:`Script` as JSON on stdin and answers with a :class:`Replay`:
for comparisons that live in another room and have no torch (loadtests/compare).
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import psutil

from build.replay import Replay, Script
from contract.errors import ConchError, VerifyError


def replay(checkpoint: Path, script: Script) -> Replay:
    """Run the checkpoint in fp32 on the CPU.

    Raises:
        VerifyError: this machine has not the memory.
    """
    import torch
    from transformers import AutoModelForCausalLM
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
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    top1, losses, greedy = [], [], []
    with torch.inference_mode():
        for window in script.windows:
            logits = model(torch.tensor([window])).logits[0]
            top1.append(dict(enumerate(logits.argmax(-1).tolist())))
            losses += torch.nn.functional.cross_entropy(
                logits[:-1], torch.tensor(window[1:]), reduction="none"
            ).tolist()
        for prompt in script.prompts:
            answer = model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=script.max_tokens,
                min_new_tokens=script.max_tokens,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )
            greedy.append(answer[0, len(prompt) :].tolist())
    return Replay(top1, sum(losses) / len(losses), greedy)


def main() -> None:
    """One script, one replay."""
    script = Script(**json.load(sys.stdin))
    said = asdict(replay(Path(sys.argv[1]), script))
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    try:
        main()
    except ConchError as refusal:
        sys.exit(str(refusal))
