"""lm-evaluation-harness before the gateway: it generates and chooses for tasks of the test's own, with the server's
tokenizer."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.supervisor import Running
from tests.e2e.servers import CODE, smollm2

LM_EVAL = CODE / ".venv-clients" / "lm-eval" / "bin" / "lm_eval"
TASKS = Path(__file__).with_name("lm_eval_tasks")
QUESTIONS = ("The capital of France is", "Monday, Tuesday, Wednesday,")


GENERATED = TASKS / "greedy.yaml"
CHOSEN = TASKS / "choice.yaml"
# A small model knows these, and none is a near tie, which the pipeline decides for itself: it rounds activations.
CHOICES = (
    ("The capital of France is", (" London", " Paris", " Madrid"), 1),
    ("Monday, Tuesday, Wednesday,", (" and", " Friday morning"), 0),
    ("Two and two is", (" four", " a green elephant in the sky"), 0),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    if not LM_EVAL.exists():
        pytest.skip("no .venv-clients: make test-clients makes it")
    with smollm2(tmp_path_factory.mktemp("lm-eval"), gateway=True) as running:
        yield running


@pytest.mark.long
def test_generation(server: Running, tmp_path: Path) -> None:
    answers = [_asked(server, prompt=question, max_tokens=8, stop=["\n"])["text"] for question in QUESTIONS]
    rows = [{"question": question, "answer": said} for question, said in zip(QUESTIONS, answers, strict=True)]
    found, _ = _evaluated(tmp_path, server, GENERATED, rows)
    assert found["exact_match,none"] == 1, "what it scores is what the door says"


@pytest.mark.long
def test_multiple_choice(server: Running, tmp_path: Path) -> None:
    """Batches of token ids, each scored; what it finds is what the door says, the greedy ones among them."""
    rows = [{"question": question, "choices": choices, "gold": gold} for question, choices, gold in CHOICES]
    found, samples = _evaluated(tmp_path, server, CHOSEN, rows, batch_size=4)
    assert found["acc,none"] == found["acc_norm,none"] == 1
    greedy = []
    for question, choices, _ in CHOICES:
        for choice, (score, likeliest) in zip(choices, samples[question], strict=True):
            assert float(score) == pytest.approx(_score(server, question, choice), abs=1e-3)
            said = _asked(server, prompt=question, max_tokens=8)["text"]
            assert (likeliest == "True") == said.startswith(choice)
            greedy.append(likeliest)
    assert set(greedy) == {"True", "False"}


def _asked(server: Running, **body: Any) -> Any:
    """The door's one choice."""
    url = f"http://127.0.0.1:{server.spec.ports.gateway}/v1/completions"
    answer = httpx.post(url, json={"model": server.spec.name, "temperature": 0} | body, timeout=60)
    assert answer.status_code == 200, answer.text
    (choice,) = answer.json()["choices"]
    return choice


def _score(server: Running, question: str, choice: str) -> float:
    """How likely a choice is after its question."""
    found = _asked(server, prompt=question + choice, max_tokens=0, echo=True, logprobs=1)["logprobs"]
    first = found["text_offset"].index(len(question))
    return float(sum(found["token_logprobs"][first:]))


def _evaluated(
    folder: Path, server: Running, task: Path, rows: list[dict[str, Any]], batch_size: int = 1
) -> tuple[dict[str, float], dict[str, list[tuple[str, str]]]]:
    """The task's metrics, and of each question what was answered of its choices, as lm_eval wrote them."""
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tasks = folder / "tasks"
    tasks.mkdir()
    data = f"dataset_kwargs:\n  data_files:\n    test: {folder / 'rows.jsonl'}\n"
    (tasks / task.name).write_text(task.read_text() + data)
    url = f"http://127.0.0.1:{server.spec.ports.gateway}/v1/completions"
    name = f"conch_{task.stem}"
    command = [
        *(str(LM_EVAL), "--model", "local-completions", "--tasks", name, "--include_path", str(tasks)),
        *("--model_args", f"model={server.spec.name},base_url={url},tokenizer_backend=remote,num_concurrent=2"),
        *("--batch_size", str(batch_size), "--log_samples", "--output_path", str(folder / "out")),
    ]
    alone = {"HF_HOME": str(folder / "hf"), "HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, cwd=folder, env=os.environ | alone
    )
    assert run.returncode == 0, run.stderr[-4000:]
    (results,) = (folder / "out").rglob("results_*.json")
    (logged,) = (folder / "out").rglob("samples_*.jsonl")
    found: dict[str, float] = json.loads(results.read_text())["results"][name]
    samples = [json.loads(line) for line in logged.read_text().splitlines()]
    return found, {each["doc"]["question"]: each["filtered_resps"] for each in samples}
