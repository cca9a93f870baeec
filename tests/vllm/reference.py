"""Hugging Face's own greedy answers, from the environment that has torch."""

import json
import subprocess
from pathlib import Path

from tests.e2e.servers import CODE

PYTHON = str(CODE / ".venv-vllm" / "bin" / "python")
_PROGRAM = """
import json, sys, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
for line in sys.stdin:
    ids = torch.tensor([json.loads(line)])
    with torch.inference_mode():
        made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=int(sys.argv[2]),
                              do_sample=False, eos_token_id=None, pad_token_id=0)
    print(json.dumps(made[0, ids.shape[1]:].tolist()))
"""


def greedy(checkpoint: Path, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    """The ids that follow each prompt."""
    asked = "".join(json.dumps(prompt) + "\n" for prompt in prompts)
    command = [PYTHON, "-c", _PROGRAM, str(checkpoint.resolve()), str(tokens)]
    said = subprocess.run(command, input=asked, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in said.splitlines()]
