"""lm-evaluation-harness before the gateway: it generates for a task of the test's own, with the server's tokenizer."""

import json
import os
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.e2e.servers import CODE, smollm2

LM_EVAL = CODE / ".venv-clients" / "lm-eval" / "bin" / "lm_eval"
TASKS = Path(__file__).with_name("lm_eval_tasks")
QUESTIONS = ("The capital of France is", "Monday, Tuesday, Wednesday,")


@pytest.mark.long
def test_generation(tmp_path: Path) -> None:
    if not LM_EVAL.exists():
        pytest.skip("no .venv-clients: make test-clients makes it")
    with smollm2(tmp_path, gateway=True) as server:
        url = f"http://127.0.0.1:{server.spec.ports.gateway}/v1/completions"
        answers = [_said(url, server.spec.name, question) for question in QUESTIONS]
        found = _evaluated(tmp_path, url, server.spec.name, answers)
    assert found["exact_match,none"] == 1, "what it scores is what the door says"


def _said(url: str, model: str, prompt: str) -> str:
    body = {"model": model, "prompt": prompt, "max_tokens": 8, "temperature": 0, "stop": ["\n"]}
    text: str = httpx.post(url, json=body, timeout=60).json()["choices"][0]["text"]
    return text


def _evaluated(folder: Path, url: str, model: str, answers: list[str]) -> dict[str, float]:
    """The task's metrics, as lm_eval wrote them."""
    rows = [{"question": question, "answer": said} for question, said in zip(QUESTIONS, answers, strict=True)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tasks = folder / "tasks"
    tasks.mkdir()
    data = f"dataset_kwargs:\n  data_files:\n    test: {folder / 'rows.jsonl'}\n"
    (tasks / "greedy.yaml").write_text((TASKS / "greedy.yaml").read_text() + data)
    command = [
        *(str(LM_EVAL), "--model", "local-completions", "--tasks", "conch_greedy", "--include_path", str(tasks)),
        *("--model_args", f"model={model},base_url={url},tokenizer_backend=remote,num_concurrent=2"),
        *("--output_path", str(folder / "out")),
    ]
    alone = {"HF_HOME": str(folder / "hf"), "HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, cwd=folder, env=os.environ | alone
    )
    assert run.returncode == 0, run.stderr[-4000:]
    (results,) = (folder / "out").rglob("results_*.json")
    found: dict[str, float] = json.loads(results.read_text())["results"]["conch_greedy"]
    return found
