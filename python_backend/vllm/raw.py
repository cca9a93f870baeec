"""vLLM's offline LLM, bare: what an engine is verified through, and what the ensemble is measured against.

``python -m python_backend.vllm.raw ENGINE`` takes JSON lines on stdin and answers each with one line on stdout. Every
question has ``spec`` (an EngineSpec; the first one's counts, as vLLM is started once), may have ``limits``, and either

- ``forced``: windows of ids; the answer has ``top1`` and ``loss`` by teacher forcing, or
- ``prompts`` and ``max_tokens``: the answer has the greedy ``ids``, and the seconds that they took.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from vllm import LLM
from vllm import SamplingParams as VllmSampling
from vllm.inputs import TokensPrompt
from vllm.platforms import current_platform

from contract.engines.vllm.arguments import engine_args
from contract.sections import EngineSpec, Limits
from contract.spec import Deployment


def load(engine: Path, question: dict[str, Any]) -> LLM:
    """vLLM as the deployment starts it."""
    spec = Deployment.model_construct(
        name="raw",
        engine=EngineSpec.model_validate(question["spec"]),
        limits=Limits.model_validate(question.get("limits", {})),
    )
    return LLM(**engine_args(engine, spec, cpu=current_platform.is_cpu()))


def forced(llm: LLM, windows: list[list[int]]) -> dict[str, Any]:
    """Teacher forcing: what vLLM finds most likely after each id, and how likely it finds the next one."""
    params = VllmSampling(max_tokens=1, temperature=0, prompt_logprobs=1, logprobs=1, detokenize=False)
    prompts = [TokensPrompt(prompt_token_ids=window) for window in windows]
    top1, losses = [], []
    for window, answer in zip(windows, llm.generate(prompts, params, use_tqdm=False), strict=True):
        ranked = [*(answer.prompt_logprobs or [])[1:], (answer.outputs[0].logprobs or [])[0]]
        top1.append([min(each.items(), key=lambda item: item[1].rank or 0)[0] for each in ranked])
        losses += [-each[token].logprob for each, token in zip(ranked, window[1:], strict=False)]
    return {"top1": top1, "loss": sum(losses) / len(losses)}


def greedy(llm: LLM, prompts: list[list[int]], max_tokens: int) -> dict[str, Any]:
    """Every prompt at once, ``max_tokens`` each."""
    params = VllmSampling(max_tokens=max_tokens, temperature=0, ignore_eos=True, detokenize=False)
    begun = time.perf_counter()
    answers = llm.generate([TokensPrompt(prompt_token_ids=each) for each in prompts], params, use_tqdm=False)
    return {"ids": [list(each.outputs[0].token_ids) for each in answers], "seconds": time.perf_counter() - begun}


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")  # vLLM and its processes write to the old one
    os.dup2(2, 1)
    llm = None
    for line in sys.stdin:
        question = json.loads(line)
        llm = llm or load(Path(sys.argv[1]), question)
        if "forced" in question:
            answer = forced(llm, question["forced"])
        else:
            answer = greedy(llm, question["prompts"], question["max_tokens"])
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
