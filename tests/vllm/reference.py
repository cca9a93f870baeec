"""Hugging Face's own greedy answers and scores, from the environment that has torch."""

import json
import subprocess
from pathlib import Path

from tests.e2e.servers import CODE

PYTHON = str(CODE / ".venv-vllm" / "bin" / "python")
_PROGRAM = """
import json, sys, torch
from transformers import AutoModelForCausalLM
prompts, tokens = json.load(sys.stdin)
for checkpoint in sys.argv[1:]:
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    answers = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens,
                                  do_sample=False, eos_token_id=None, pad_token_id=0)
        answers.append(made[0, ids.shape[1]:].tolist())
    print(json.dumps(answers))
"""


def greedy(checkpoints: list[Path], prompts: list[list[int]], tokens: int) -> list[list[list[int]]]:
    """Of each checkpoint, the ids that follow each prompt."""
    command = [PYTHON, "-c", _PROGRAM, *(str(each.resolve()) for each in checkpoints)]
    asked = json.dumps([prompts, tokens])
    said = subprocess.run(command, input=asked, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in said.splitlines()]


_SCORES = """
import json, sys, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
ids = torch.tensor([json.load(sys.stdin)])
with torch.inference_mode():
    rows = model(ids).logits[0, :-1].log_softmax(-1)
print(json.dumps(rows.gather(1, ids[0, 1:, None])[:, 0].tolist()))
"""


def scores(checkpoint: Path, prompt: list[int]) -> list[float]:
    """The log probability of each token of a prompt but the first."""
    command = [PYTHON, "-c", _SCORES, str(checkpoint.resolve())]
    said = subprocess.run(command, input=json.dumps(prompt), capture_output=True, text=True, check=True).stdout
    found: list[float] = json.loads(said)
    return found
