"""Adapters in a real vLLM: two random ones over the default model, whose texts must be those of the merged weights."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from build.repository import write_repository
from clients.grpc import Client
from contract.errors import InvalidRequest
from contract.spec import load_spec
from serving.supervisor import PROGRAM, Running, running
from tests.e2e.servers import CODE, build, on_free_ports
from tests.vllm.reference import greedy

pytestmark = pytest.mark.long

SMOLLM2 = CODE / "engines" / "smollm2-135m-vllm"
ADAPTERS = ("land", "sea")
RANK, ALPHA, TOKENS = 8, 16, 24
PROMPTS = ("The capital of France is", "Once upon a time", "def fibonacci(n):\n")


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    (found,) = (SMOLLM2 / ".work").glob("convert-*")
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """The adapters and, for Hugging Face, the model with each merged into it; the deployment, built."""
    folder = tmp_path_factory.mktemp("lora")
    weights = load_file(checkpoint / "model.safetensors")
    for number, name in enumerate(ADAPTERS):
        merge(weights, make_adapter(weights, folder / name, seed=number), checkpoint, folder / f"merged-{name}")
    config = folder / "adapted.yaml"
    lora = {"adapters": {name: str(folder / name) for name in ADAPTERS}, "max_rank": RANK}
    data = {
        "name": config.stem,
        "source": {"kind": "path", "path": str(checkpoint)},
        "engine": {"runtime": "vllm", "precision": "fp32", "vllm": {"enforce_eager": True, "lora": lora}},
        "limits": {"max_batch_size": 8},
        "verify": {"reference": "none"},
    }
    config.write_text(yaml.safe_dump(data))
    build(config, folder)
    return folder


def make_adapter(weights: dict[str, Any], folder: Path, seed: int) -> dict[str, Any]:
    """A random adapter as PEFT writes it; returns what it adds to each weight."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, Any] = {}
    added: dict[str, Any] = {}
    for name, weight in weights.items():
        if name.endswith(("q_proj.weight", "v_proj.weight")):
            (wide, narrow), stem = weight.shape, name.removesuffix(".weight")
            down = (0.05 * rng.standard_normal((RANK, narrow))).astype(np.float32)
            up = (0.05 * rng.standard_normal((wide, RANK))).astype(np.float32)
            tensors |= {f"base_model.model.{stem}.lora_{half}.weight": each for half, each in (("A", down), ("B", up))}
            added[name] = ALPHA / RANK * up @ down
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    described = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": ["q_proj", "v_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(described | {"bias": "none", "task_type": "CAUSAL_LM"}))
    return added


def merge(weights: dict[str, Any], added: dict[str, Any], checkpoint: Path, folder: Path) -> None:
    """The checkpoint with what an adapter adds."""
    shutil.copytree(checkpoint, folder)
    merged = {name: weight + added[name] if name in added else weight for name, weight in weights.items()}
    save_file(merged, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Running]:
    spec = on_free_ports(load_spec(root / "adapted.yaml"))
    write_repository(root, spec, root / "engines" / spec.name / "current")
    with running(spec, root, program=PROGRAM) as served:
        yield served


@pytest.fixture(scope="module")
def prompts(checkpoint: Path) -> list[list[int]]:
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    return [tokenizer.encode(prompt).ids for prompt in PROMPTS]


@pytest.fixture(scope="module")
def expected(root: Path, checkpoint: Path, prompts: list[list[int]]) -> dict[str, list[list[int]]]:
    """Hugging Face's answers, of the model itself under ''."""
    places = [checkpoint, *(root / f"merged-{name}" for name in ADAPTERS)]
    return dict(zip(("", *ADAPTERS), greedy(places, prompts, TOKENS), strict=True))


def test_the_adapters_are_worth_a_test(expected: dict[str, list[list[int]]]) -> None:
    assert expected[""] != expected["sea"] != expected["land"] != expected[""]


def test_answers_are_those_of_the_merged_weights(
    client: Client, prompts: list[list[int]], expected: dict[str, list[list[int]]]
) -> None:
    """Alone, and base and adapters in one batch."""

    def ask(name: str, number: int) -> list[int]:
        options: dict[str, Any] = {"lora_name": name} if name else {}
        return list(
            client.generate(input_ids=prompts[number], max_tokens=TOKENS, ignore_eos=True, **options).output_ids
        )

    asked = [(name, number) for number in range(len(prompts)) for name in expected]
    for name, number in asked:
        assert ask(name, number) == expected[name][number]
    with ThreadPoolExecutor(len(asked)) as pool:
        together = list(pool.map(lambda each: ask(*each), asked))
    assert together == [expected[name][number] for name, number in asked]


def test_an_adapter_that_is_not_there_is_refused_by_name(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="lora_name: there is no adapter 'moon'; there are land, sea") as refused:
        client.generate(PROMPTS[0], max_tokens=4, lora_name="moon")
    assert refused.value.field == "lora_name"
