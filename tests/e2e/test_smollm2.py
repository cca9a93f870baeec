"""The real model through the real Triton: what a request asks for is what its answer shows."""

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from clients import http
from clients.grpc import Client
from clients.request import Answer, joined
from contract.errors import ContextTooLong, InvalidRequest, Unavailable, UnsupportedByEngine
from contract.state import Phase
from contract.tensors import FinishReason
from serving import process
from serving.supervisor import Running
from tests.e2e.servers import CODE, metric, smollm2
from tests.runtimes.contract import (
    Check,
    Served,
    prompts_are_scored,
    the_token_after_a_scored_prompt_has_alternatives,
)
from tests.serving.stream import until

ENGINE = CODE / "engines" / "smollm2-135m" / "current"
EOS = 2
FRANCE = "The capital of France is"
REPEATS = "The cat sat on the mat. The cat sat on the mat. The cat sat on the mat. The cat"
PROMPTS = {
    "plain": FRANCE,
    "emoji": "🙂🚀👩‍👩‍👧‍👦 Emoji, emoji: 🎉🎉🎉",
    "cjk": "日本語の文章：今日は天気がいいですね。我喜欢喝茶。한국어",
    "code": "def fibonacci(n):\n\tif n < 2:\n\t\treturn n\n",
    "accents": "L'été à la plage, où ça naît déjà — ",
    "digits": "3.14159 26535 89793 23846",
}
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}, "c": {"enum": ["red", "blue"]}},
    "required": ["n", "c"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with smollm2(tmp_path_factory.mktemp("smollm2")) as running:
        yield running


@pytest.fixture(scope="module", params=[False, True], ids=["ensemble", "direct"])
def client(server: Running, request: pytest.FixtureRequest) -> Iterator[Client]:
    """Either way to the engine."""
    with Client(f"127.0.0.1:{server.spec.ports.grpc}", server.spec.name, direct=request.param) as connected:
        yield connected


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(ENGINE / "tokenizer.json"))


def text_of(tokenizer: Tokenizer, ids: tuple[int, ...]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=True))


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=list(PROMPTS))
def test_streamed_text_is_the_whole_text(client: Client, tokenizer: Tokenizer, prompt: str) -> None:
    options: dict[str, Any] = {"max_tokens": 48, "temperature": 0.0}
    whole = client.generate(prompt, **options)
    deltas = list(client.stream(prompt, **options))
    assert len(deltas) > 1
    assert joined(deltas) == whole
    assert whole.text == text_of(tokenizer, whole.output_ids)
    assert whole.num_output_tokens == len(whole.output_ids)
    assert whole.num_input_tokens == len(tokenizer.encode(prompt).ids)
    assert {delta.finish_reason for delta in deltas[:-1]} == {""}


def test_http_says_the_same(server: Running, client: Client) -> None:
    address = f"127.0.0.1:{server.spec.ports.http}"
    answer = client.generate(PROMPTS["cjk"], max_tokens=24)
    assert http.generate(PROMPTS["cjk"], address=address, max_tokens=24) == answer
    assert joined(http.stream(PROMPTS["cjk"], address=address, max_tokens=24)) == answer


def test_ids_are_a_prompt_too(client: Client, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(FRANCE).ids
    assert client.generate(input_ids=ids, max_tokens=16) == client.generate(FRANCE, max_tokens=16)


def test_messages_take_the_models_template(client: Client, tokenizer: Tokenizer) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2 + 2?"}]
    rendered = (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\n"
    )
    answer = client.generate(messages=messages, max_tokens=24)
    assert answer == client.generate(rendered, max_tokens=24)
    assert answer.num_input_tokens == len(tokenizer.encode(rendered).ids)


@pytest.mark.parametrize("prompt", [PROMPTS["emoji"], PROMPTS["cjk"]], ids=["emoji", "cjk"])
def test_an_answer_goes_on_where_it_was_cut(client: Client, prompt: str) -> None:
    options: dict[str, Any] = {"max_tokens": 40, "min_tokens": 30, "ignore_eos": True, "stop_words": ["never said"]}
    deltas = list(client.stream(prompt, **options))
    whole = joined(deltas)
    for heard in (1, 5, len(deltas) - 1):
        had = deltas[:heard]
        ids = [token for delta in had for token in delta.output_ids]
        said = "".join(delta.text for delta in had)
        rest = joined(client.stream(prompt, **options, resumed_ids=ids, resumed_chars=len(said)))
        assert said + rest.text == whole.text
        assert (*ids, *rest.output_ids) == whole.output_ids
        assert (rest.num_input_tokens, rest.num_output_tokens) == (whole.num_input_tokens, whole.num_output_tokens)
    ended = client.generate(prompt, **options, resumed_ids=list(whole.output_ids), resumed_chars=len(whole.text))
    assert (ended.text, ended.output_ids, ended.finish_reason) == ("", (), FinishReason.LENGTH)


def test_what_cannot_go_on_is_refused(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="cannot go on with an answer that has presence_penalty") as refused:
        client.generate(FRANCE, max_tokens=8, resumed_ids=[5], presence_penalty=0.5)
    assert refused.value.field == "resumed_ids"


def test_the_end_of_sequence_is_an_id_without_text(client: Client, tokenizer: Tokenizer) -> None:
    """output_ids hold what the engine generated, the end included; the text has none of it."""
    guide: dict[str, Any] = {"guided_decoding_guide_type": "regex", "guided_decoding_guide": "yes"}
    answer = client.generate(FRANCE, max_tokens=24, **guide)
    assert answer.text == "yes"
    assert answer.finish_reason == FinishReason.STOP
    assert answer.output_ids[-1] == EOS
    assert answer.num_output_tokens == len(answer.output_ids)
    assert answer.text == text_of(tokenizer, answer.output_ids)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_stop_strings_never_leak(client: Client, stream: bool) -> None:
    """Each stop string begins and ends inside tokens of the greedy answer."""
    free = client.generate(FRANCE, max_tokens=24)
    for start in range(1, len(free.text) - 8, 3):
        stop = free.text[start : start + 7]
        options: dict[str, Any] = {"max_tokens": 24, "stop_words": ["never said", stop]}
        answer = joined(client.stream(FRANCE, **options)) if stream else client.generate(FRANCE, **options)
        assert answer.text == free.text[: free.text.index(stop)]
        assert answer.finish_reason == FinishReason.STOP
        assert answer.output_ids == free.output_ids[: len(answer.output_ids)]


def test_max_tokens_and_min_tokens(client: Client) -> None:
    answer = client.generate(FRANCE, max_tokens=7)
    assert (answer.num_output_tokens, answer.finish_reason) == (7, FinishReason.LENGTH)
    free = client.generate(FRANCE, max_tokens=24)
    end = free.output_ids[4]
    early = client.generate(FRANCE, max_tokens=24, end_id=end)
    assert early.output_ids == free.output_ids[:5]
    late = client.generate(FRANCE, max_tokens=24, end_id=end, min_tokens=10)
    assert late.num_output_tokens >= 10
    assert end not in late.output_ids[:9]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("field", ["stop_token_ids", "end_id"])
def test_named_ends_stop_without_text(client: Client, tokenizer: Tokenizer, field: str, stream: bool) -> None:
    free = client.generate(FRANCE, max_tokens=24)
    end = free.output_ids[4]
    options: dict[str, Any] = {"max_tokens": 24, field: [end] if field == "stop_token_ids" else end}
    for stops in ([], ["never said"]):
        options["stop_words"] = stops
        answer = joined(client.stream(FRANCE, **options)) if stream else client.generate(FRANCE, **options)
        assert answer.finish_reason == FinishReason.STOP
        assert answer.output_ids == free.output_ids[:5]
        assert answer.text == text_of(tokenizer, free.output_ids[:4])


def test_ignore_eos(client: Client) -> None:
    guide = [{"role": "user", "content": "Say only: yes"}]
    ended = client.generate(messages=guide, max_tokens=60)
    assert ended.finish_reason == FinishReason.STOP
    ignoring: list[dict[str, Any]] = [{"ignore_eos": True}, {"end_id": 1 << 20}, {"end_id": 1 << 20, "min_tokens": 60}]
    for options in ignoring:  # NVIDIA's benchmarks say it with an end_id that no token has
        answer = client.generate(messages=guide, max_tokens=60, **options)
        assert (answer.num_output_tokens, answer.finish_reason) == (60, FinishReason.LENGTH)
        assert answer.text.startswith(ended.text)


def test_a_seed_is_kept(client: Client) -> None:
    """Alone. Beside others an int8 engine's logits move in their second digit with the batch, and no seed helps."""
    options: dict[str, Any] = {"max_tokens": 24, "temperature": 1.0, "top_p": 0.95}
    answers = {seed: client.generate(FRANCE, seed=seed, **options) for seed in (0, 1, 7, 2**64 - 1)}
    assert len({answer.text for answer in answers.values()}) > 2
    for seed, answer in reversed(answers.items()):
        assert client.generate(FRANCE, seed=seed, **options) == answer


def test_seeds_differ_in_a_crowd(client: Client) -> None:
    answers: dict[int, Answer] = {}

    def ask(seed: int) -> None:
        answers[seed] = client.generate(FRANCE, max_tokens=24, temperature=1.0, seed=seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len({answer.text for answer in answers.values()}) > 4


def test_without_a_seed_answers_differ(client: Client) -> None:
    assert len({client.generate(FRANCE, max_tokens=24, temperature=1.5).text for _ in range(4)}) > 1


@pytest.mark.parametrize(
    "penalty", [{"repetition_penalty": 1.8}, {"presence_penalty": 2.0}, {"frequency_penalty": 2.0}], ids=str
)
def test_penalties_change_the_answer(client: Client, penalty: dict[str, Any]) -> None:
    plain = client.generate(REPEATS, max_tokens=24)
    assert client.generate(REPEATS, max_tokens=24, **penalty).output_ids != plain.output_ids


def test_top_k_of_one_is_greedy(client: Client) -> None:
    greedy = client.generate(FRANCE, max_tokens=16)
    assert client.generate(FRANCE, max_tokens=16, top_k=1, temperature=2.0) == greedy
    assert client.generate(FRANCE, max_tokens=16, temperature=1e-6) == greedy
    assert client.generate(FRANCE, max_tokens=16, top_p=1e-6, temperature=1.0) == greedy


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.9, "seed": 3}, {"stop_words": ["\n"]}], ids=str)
def test_log_probs_one_a_token(client: Client, stream: bool, options: dict[str, Any]) -> None:
    options = {"max_tokens": 12, "return_log_probs": True, **options}
    answer = joined(client.stream(FRANCE, **options)) if stream else client.generate(FRANCE, **options)
    assert len(answer.log_probs) == len(answer.output_ids) > 0
    assert all(-50 < value <= 0 for value in answer.log_probs)
    assert any(value < 0 for value in answer.log_probs)


@pytest.mark.parametrize("check", [prompts_are_scored, the_token_after_a_scored_prompt_has_alternatives])
def test_a_prompt_has_log_probs(server: Running, check: Check) -> None:
    check(Served(server.spec, ENGINE))


def test_a_prompt_is_scored_beside_a_stream(client: Client, tokenizer: Tokenizer) -> None:
    """And a long prompt, which is scored in pieces, begins as a short one."""
    ids = tokenizer.encode(PROMPTS["code"] * 30).ids
    alone = client.generate(FRANCE, max_tokens=6)  # further on are near ties, which what is cached may turn
    stream = client.stream(FRANCE, max_tokens=48, ignore_eos=True)
    first = next(stream)
    long = client.generate(input_ids=ids, max_tokens=0, prompt_logprobs=0)
    answer = joined([first, *stream])
    assert answer.output_ids[:6] == alone.output_ids
    assert (answer.num_output_tokens, answer.text) == (48, text_of(tokenizer, answer.output_ids))
    short = client.generate(input_ids=ids[:100], max_tokens=0, prompt_logprobs=0)
    assert len(long.prompt_log_probs) == len(ids) - 1 > 256
    assert long.prompt_log_probs[:99] == pytest.approx(short.prompt_log_probs, abs=0.01)


def test_nothing_is_generated_where_nothing_is_wanted(client: Client) -> None:
    answer = client.generate(FRANCE, max_tokens=0)
    assert (answer.text, answer.num_output_tokens, answer.finish_reason) == ("", 0, FinishReason.LENGTH)
    assert answer.num_input_tokens == 5
    assert client.generate(FRANCE, max_tokens=0, exclude_input_in_output=False).text == FRANCE


def test_guided_by_a_schema(client: Client) -> None:
    guide = json.dumps(SCHEMA)
    messages = [{"role": "user", "content": "Pick a digit and a colour, as JSON."}]
    for seed in range(3):
        answer = client.generate(
            messages=messages,
            max_tokens=200,
            temperature=0.8,
            seed=seed,
            guided_decoding_guide_type="json_schema",
            guided_decoding_guide=guide,
        )
        assert answer.finish_reason == FinishReason.STOP
        made = json.loads(answer.text)
        assert made.keys() == {"n", "c"}
        assert made["n"] in range(10)
        assert made["c"] in ("red", "blue")


def test_guided_by_an_expression(client: Client) -> None:
    pattern = r"(red|green|blue) [0-9]{2}"
    for seed in range(3):
        answer = client.generate(
            "A colour and a number: ",
            max_tokens=24,
            temperature=1.0,
            seed=seed,
            guided_decoding_guide_type="regex",
            guided_decoding_guide=pattern,
        )
        assert re.fullmatch(pattern, answer.text)


@pytest.mark.parametrize(
    ("kind", "guide"),
    [
        ("json_schema", "{nope"),
        ("json_schema", '{"type": "nonsense"}'),
        ("regex", "((("),
        ("ebnf_grammar", "root ::= ("),
    ],
)
def test_a_guide_that_is_none_is_refused(client: Client, kind: str, guide: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        client.generate(FRANCE, max_tokens=8, guided_decoding_guide_type=kind, guided_decoding_guide=guide)
    assert refused.value.field == "guided_decoding_guide"


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("bad_words", {"bad_words": ["Paris"]}),
        ("beam_width", {"beam_width": 4}),
        ("logit_bias", {"logit_bias": {"5": 1.0}}),
        ("logprobs", {"return_log_probs": True, "logprobs": 2, "prompt_logprobs": 2}),
        (
            "guided_decoding_guide_type",
            {"guided_decoding_guide_type": "structural_tag", "guided_decoding_guide": "{}"},
        ),
    ],
)
def test_what_the_engine_cannot_do_is_refused_by_name(client: Client, field: str, options: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedByEngine, match="not supported by the openvino engine") as refused:
        client.generate(FRANCE, max_tokens=8, **options)
    assert refused.value.field == field


def test_too_long_is_refused_with_the_numbers(server: Running, client: Client, tokenizer: Tokenizer) -> None:
    limits = server.spec.limits
    prompt = "word " * (limits.max_input_len + 10)
    tokens = len(tokenizer.encode(prompt).ids)
    context = f"maximum context length is {limits.max_seq_len} tokens"
    with pytest.raises(
        ContextTooLong, match=f"{context}, {limits.max_input_len} of them for the prompt, which has {tokens}"
    ):
        client.generate(prompt)
    with pytest.raises(ContextTooLong, match=f"{context}; .*. Ask for at most {limits.max_seq_len - 5}"):
        client.generate(FRANCE, max_tokens=limits.max_seq_len)


def test_metrics(server: Running, client: Client) -> None:
    """Every name of the contract, counting what was asked."""

    def total(name: str) -> float:
        return sum(metric(server, name).values())

    def counts() -> dict[str, float]:
        counters = ("requests_total", "prompt_tokens_total", "generated_tokens_total")
        histograms = ("time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_seconds")
        return {name: total(f"conch_{name}") for name in (*counters, *(f"{each}_count" for each in histograms))}

    def settled() -> dict[str, float]:
        for _ in until(30, "the counters to rest"):
            before = counts()
            threading.Event().wait(1.5)
            if counts() == before:
                return before
        raise AssertionError

    before = settled()
    for _ in range(3):
        assert client.generate(FRANCE, max_tokens=9).num_output_tokens == 9
    grown = {name: value - before[name] for name, value in settled().items()}
    assert grown == {
        "requests_total": 3,
        "prompt_tokens_total": 15,
        "generated_tokens_total": 27,
        "time_to_first_token_seconds_count": 3,
        "inter_token_latency_seconds_count": 24,
        "e2e_seconds_count": 3,
    }
    reasons = {
        label for labels in metric(server, "conch_requests_total") for label in re.findall(r'reason="(\w+)"', labels)
    }
    assert {FinishReason.LENGTH, FinishReason.STOP} <= reasons <= set(FinishReason)
    assert 0 <= total("conch_kv_cache_usage_ratio") <= 1
    assert (total("conch_requests_active"), total("conch_requests_waiting"), total("conch_streams_open")) == (0, 0, 0)
    assert total("conch_engine_steps_total") > 0
    for histogram in ("conch_time_to_first_token_seconds", "conch_inter_token_latency_seconds", "conch_e2e_seconds"):
        buckets = {
            float(re.findall(r'le="([^"]+)"', labels)[0]): value
            for labels, value in metric(server, f"{histogram}_bucket").items()
        }
        ordered = [buckets[bound] for bound in sorted(buckets)]
        assert ordered == sorted(ordered)
        assert ordered[-1] == total(f"{histogram}_count")
        assert 0 < total(f"{histogram}_sum") / total(f"{histogram}_count") < 30


def test_a_dead_engine_process_is_an_error_and_is_mended(tmp_path: Path) -> None:
    """Requests in flight fail with a reason, and the server comes back by itself."""
    with (
        smollm2(tmp_path, canaries=True) as server,
        Client(f"127.0.0.1:{server.spec.ports.grpc}") as client,
    ):
        _dies_and_comes_back(server, client)


def _dies_and_comes_back(server: Running, client: Client) -> None:
    pid = server.pid
    stream = client.stream(FRANCE, max_tokens=1000, ignore_eos=True)
    next(stream)
    (engine,) = [stub for stub in process.stubs(pid) if stub.model.endswith("_engine")]
    (worker,) = engine.process.children()
    worker.kill()
    with pytest.raises(Unavailable, match="the engine's process died"):
        list(stream)
    with pytest.raises(Unavailable, match="process died"):
        client.generate(FRANCE, max_tokens=4)
    for _ in until(60, "recovery"):
        if server.pid != pid and server.state.phase is Phase.READY:
            break
    assert client.generate(FRANCE, max_tokens=4).num_output_tokens == 4
