"""What every engine behind the ensemble must do, as plain checks of a server that runs: no pytest, no fixtures.

Each of CHECKS takes a :class:`Served` and asserts. What an engine declares must work; what it does not must be refused
by name. ``python -m tests.runtimes.conform CONFIG`` runs them against a running deployment, pytest wherever it can
start one.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tokenizers import Tokenizer

from clients import http
from clients.grpc import Client
from clients.request import Answer, joined
from contract.errors import ContextTooLong, InvalidRequest, RequestError, UnsupportedByEngine
from contract.sampling import feature_names
from contract.spec import Deployment
from contract.tensors import FinishReason
from python_backend.engines import features_of
from tests.e2e.servers import samples

FRANCE = "The capital of France is"
PROMPTS = (FRANCE, "🙂🚀👩‍👩‍👧‍👦 Emoji, emoji: 🎉🎉🎉", "日本語の文章：今日は天気がいいですね。", "L'été à la plage — ")
CROWD = 32


@dataclass(frozen=True)
class Served:
    """A deployment that runs."""

    spec: Deployment
    engine: Path  # its folder, for the tokenizer and the end of sequence

    @property
    def features(self) -> frozenset[str]:
        """What its engine declares."""
        return features_of(self.spec.engine)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """What the stages decode with."""
        return Tokenizer.from_file(str(self.engine / "tokenizer.json"))

    @cached_property
    def eos(self) -> tuple[int, ...]:
        """The model's own ends of sequence."""
        named = json.loads((self.engine / "config.json").read_text())["eos_token_id"]
        return tuple(named) if isinstance(named, list) else (named,)

    def client(self) -> Client:
        """A client of its own."""
        return Client(f"{self.spec.ports.host}:{self.spec.ports.grpc}")

    def ask(self, prompt: str | None = FRANCE, **options: Any) -> Answer:
        """A whole answer."""
        with self.client() as client:
            return client.generate(prompt, **options)

    def stream(self, prompt: str | None = FRANCE, **options: Any) -> list[Any]:
        """An answer's deltas."""
        with self.client() as client:
            return list(client.stream(prompt, **options))

    def decoded(self, ids: tuple[int, ...]) -> str:
        """The one-shot decode."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def metric(self, name: str, label: str = "") -> float:
        """A metric's samples, summed."""
        with urlopen(f"http://{self.spec.ports.host}:{self.spec.ports.metrics}/metrics", timeout=5) as page:
            found = samples(page.read().decode(), name)
        return sum(value for labels, value in found.items() if label in labels)


@contextmanager
def refused(kind: type[RequestError], field: str) -> Iterator[None]:
    """What is asked within is refused, and blames this field."""
    try:
        yield
    except kind as refusal:
        assert refusal.field == field, f"{refusal} blames {refusal.field!r}, not {field!r}"
        return
    raise AssertionError(f"{field} was not refused")


def joined_deltas_are_the_one_shot_decode(served: Served) -> None:
    """Of every prompt, streamed and whole, with ids and text."""
    for prompt in PROMPTS:
        deltas = served.stream(prompt, max_tokens=32, ignore_eos=True)
        assert len(deltas) > 1
        for answer in (joined(deltas), served.ask(prompt, max_tokens=32, ignore_eos=True)):
            assert answer.text == served.decoded(answer.output_ids)
            assert answer.num_output_tokens == len(answer.output_ids) == 32
            assert answer.num_input_tokens == len(served.tokenizer.encode(prompt).ids)
            assert answer.finish_reason == FinishReason.LENGTH


def greedy_is_reproducible(served: Served) -> None:
    """Over gRPC and HTTP, streamed and whole."""
    first = served.ask(max_tokens=8)
    assert served.ask(max_tokens=8) == first
    assert joined(served.stream(max_tokens=8)) == first
    address = f"{served.spec.ports.host}:{served.spec.ports.http}"
    assert joined(http.stream(FRANCE, address=address, max_tokens=8)) == first


def stop_strings_never_leak(served: Served) -> None:
    """Wherever they lie across the tokens."""
    free = served.ask(max_tokens=24)
    for start in range(1, len(free.text) - 8, 7):
        stop = free.text[start : start + 7]
        for answer in (
            joined(served.stream(max_tokens=24, stop_words=[stop])),
            served.ask(max_tokens=24, stop_words=[stop]),
        ):
            assert stop not in answer.text
            assert answer.text == free.text[: free.text.index(stop)]
            assert answer.finish_reason == FinishReason.STOP


def an_answer_ends_where_it_is_told(served: Served) -> None:
    """By an end of sequence of the request's own, by a stop token, or by none."""
    free = served.ask(max_tokens=16, ignore_eos=True)
    at = max(5, free.output_ids.index(free.output_ids[5]))
    token = free.output_ids[at]
    cut = free.output_ids[: free.output_ids.index(token) + 1]
    wanted: list[dict[str, Any]] = [{"end_id": token}]
    if "stop_token_ids" in served.features:
        wanted += [{"stop_token_ids": [token]}, {"stop_token_ids": [token], "ignore_eos": True}]
    for options in wanted:
        for answer in (served.ask(max_tokens=16, **options), joined(served.stream(max_tokens=16, **options))):
            assert (answer.output_ids, answer.finish_reason) == (cut, FinishReason.STOP), options
            assert answer.text in served.decoded(cut)
    never = served.ask(max_tokens=16, end_id=2**31 - 1)
    assert (never.num_output_tokens, never.finish_reason) == (16, FinishReason.LENGTH)


def the_end_of_sequence_is_an_id_without_text(served: Served) -> None:
    """A guide leaves nothing else to say."""
    guide: dict[str, Any] = {"guided_decoding_guide_type": "regex", "guided_decoding_guide": "yes"}
    answer = served.ask(max_tokens=24, **guide)
    assert (answer.text, answer.finish_reason) == ("yes", FinishReason.STOP)
    assert answer.output_ids[-1] in served.eos


def min_tokens_hold_the_end_back(served: Served) -> None:
    """Where the engine has them."""
    if "min_tokens" in served.features:
        answer = served.ask("Say yes.\nyes", max_tokens=24, min_tokens=20)
        assert answer.num_output_tokens >= 20


def guides_are_kept_and_bad_ones_refused(served: Served) -> None:
    """Schemas, expressions and grammars, as far as the engine has them."""
    schema = {"type": "object", "properties": {"c": {"enum": ["red", "blue"]}}, "required": ["c"]}
    guides = {
        "json_schema": json.dumps({**schema, "additionalProperties": False}),
        "regex": r"(red|green) [0-9]{2}",
        "ebnf_grammar": 'root ::= "sea" | "sky"',
    }
    bad = {"json_schema": "{nope", "regex": "(((", "ebnf_grammar": "root ::= ("}
    for kind, guide in guides.items():
        if f"guided_decoding_guide_type:{kind}" not in served.features:
            continue
        options: dict[str, Any] = {"guided_decoding_guide_type": kind, "max_tokens": 64, "temperature": 0.8}
        answer = served.ask("A colour: ", guided_decoding_guide=guide, **options)
        assert answer.finish_reason == FinishReason.STOP, kind
        if kind == "json_schema":
            assert json.loads(answer.text)["c"] in ("red", "blue")
        else:
            assert re.fullmatch(r"(red|green) [0-9]{2}|sea|sky", answer.text), answer.text
        with refused(InvalidRequest, "guided_decoding_guide"):
            served.ask(guided_decoding_guide=bad[kind], **options)
    assert served.ask(max_tokens=2).num_output_tokens == 2


def log_probs_are_of_the_tokens(served: Served) -> None:
    """The chosen one is the most likely, and alternatives come in order."""
    if "return_log_probs" not in served.features:
        return
    answer = served.ask(max_tokens=8, return_log_probs=True, ignore_eos=True)
    assert len(answer.log_probs) == len(answer.output_ids) == 8
    assert all(value <= 0 for value in answer.log_probs)
    if "logprobs" in served.features:
        deltas = served.stream(max_tokens=8, return_log_probs=True, logprobs=3, ignore_eos=True)
        tops = [position for delta in deltas for position in delta.top_log_probs]
        chosen = joined(deltas).log_probs
        assert len(tops) == len(chosen) == 8
        for value, alternatives in zip(chosen, tops, strict=True):
            values = [each for _, each in alternatives]
            assert values and len(values) <= 3
            assert values == sorted(values, reverse=True)
            assert abs(value - values[0]) < 1e-2  # greedy


def prompts_are_scored(served: Served) -> None:
    """As their tokens were when they were an answer, whatever the prefix cache has; and nothing more is said."""
    if "prompt_logprobs" not in served.features:
        return
    prompt = served.tokenizer.encode(FRANCE).ids
    answer = served.ask(max_tokens=8, ignore_eos=True, return_log_probs=True)
    whole = [*prompt, *answer.output_ids]
    for _ in range(2):
        (told,) = served.stream(None, input_ids=whole, max_tokens=0, prompt_logprobs=2)
        assert (told.output_ids, told.num_output_tokens, told.finish_reason) == ((), 0, FinishReason.LENGTH)
        assert told.num_input_tokens == len(told.prompt_tokens) == len(whole)
        assert b"".join(told.prompt_tokens).decode() == FRANCE + answer.text
        assert len(told.prompt_log_probs) == len(told.prompt_top_log_probs) == len(whole) - 1
        off = [abs(a - b) for a, b in zip(answer.log_probs, told.prompt_log_probs[-8:], strict=True)]
        assert max(off) < 0.4 and sum(off) / len(off) < 0.1, off  # as activations of int8 or bf16 have it
        for own, tops in zip(told.prompt_log_probs, told.prompt_top_log_probs, strict=True):
            values = [value for _, value in tops]
            assert len(values) == 2 and values == sorted(values, reverse=True)
            assert own <= values[0]
        for own, tops in zip(told.prompt_log_probs[-8:], told.prompt_top_log_probs[-8:], strict=True):
            assert tops[0][1] - own < 0.4, "it was the likeliest"
    (told,) = served.stream(None, input_ids=whole[:1], max_tokens=0, prompt_logprobs=1)
    assert (len(told.prompt_tokens), told.prompt_log_probs) == (1, ())
    longer = served.ask(max_tokens=3, ignore_eos=True, prompt_logprobs=0)
    assert (longer.output_ids, len(longer.prompt_log_probs)) == (answer.output_ids[:3], len(prompt) - 1)


def the_token_after_a_scored_prompt_has_alternatives(served: Served) -> None:
    """Where it is the likeliest, as evaluators ask: even where those of an answer are not known."""
    if "prompt_logprobs" in served.features:
        options: dict[str, Any] = {"max_tokens": 1, "prompt_logprobs": 1, "return_log_probs": True, "logprobs": 2}
        (told,) = served.stream(FRANCE, **options)
        ((first, second),) = told.top_log_probs
        assert told.output_ids == served.ask(max_tokens=1).output_ids
        assert (told.tokens[0], told.log_probs[0]) == first
        assert first[1] >= second[1]


def a_seed_repeats_an_answer(served: Served) -> None:
    """Where the engine has seeds; and without one, answers differ."""
    if "seed" in served.features:
        seeded: dict[str, Any] = {"max_tokens": 12, "temperature": 1.0, "seed": 7}
        assert served.ask(**seeded).output_ids == served.ask(**seeded).output_ids
    assert len({served.ask(max_tokens=12, temperature=1.5).output_ids for _ in range(4)}) > 1


# Of every feature a request that asks for it; a feature that has none here fails the check below.
ASKED: dict[str, dict[str, Any]] = {
    "min_tokens": {"min_tokens": 2},
    "temperature": {"temperature": 0.7},
    "top_k": {"top_k": 5},
    "top_p": {"top_p": 0.9},
    "min_p": {"min_p": 0.1, "temperature": 1.0},
    "repetition_penalty": {"repetition_penalty": 1.2},
    "presence_penalty": {"presence_penalty": 0.5},
    "frequency_penalty": {"frequency_penalty": 0.5},
    "seed": {"temperature": 1.0, "seed": 3},
    "ignore_eos": {"ignore_eos": True},
    "stop_token_ids": {"stop_token_ids": [5]},
    "bad_words": {"bad_words": ["sea"]},
    "logit_bias": {"logit_bias": {"5": -50}},
    "beam_width": {"beam_width": 4},
    "return_log_probs": {"return_log_probs": True},
    "logprobs": {"return_log_probs": True, "logprobs": 2},
    "prompt_logprobs": {"prompt_logprobs": 2},
    "lora_name": {"lora_name": "moon"},
    "resumed_ids": {"resumed_ids": [5, 6]},
    "guided_decoding_guide_type:json": {"guided_decoding_guide_type": "json"},
    "guided_decoding_guide_type:json_schema": {
        "guided_decoding_guide_type": "json_schema",
        "guided_decoding_guide": '{"type": "object", "properties": {}, "additionalProperties": false}',
    },
    "guided_decoding_guide_type:regex": {"guided_decoding_guide_type": "regex", "guided_decoding_guide": "a{1,4}"},
    "guided_decoding_guide_type:ebnf_grammar": {
        "guided_decoding_guide_type": "ebnf_grammar",
        "guided_decoding_guide": 'root ::= "a"',
    },
    "guided_decoding_guide_type:structural_tag": {
        "guided_decoding_guide_type": "structural_tag",
        "guided_decoding_guide": json.dumps(
            {"type": "structural_tag", "format": {"type": "regex", "pattern": "a{1,4}"}}
        ),
    },
}


def what_is_declared_works_and_all_else_is_refused_by_name(
    served: Served, but: frozenset[str] = frozenset({"lora_name"})
) -> None:
    """Every parameter of the contract.

    Args:
        but: declared features that this server cannot show.
    """
    for feature in feature_names():
        field = feature.partition(":")[0]
        if feature not in served.features:
            if not set(ASKED[feature]) - {field} - {"guided_decoding_guide"} <= served.features:
                continue  # it would be refused for what goes with it
            with refused(UnsupportedByEngine, field):
                served.ask(max_tokens=4, **ASKED[feature])
        elif feature not in but:
            assert served.ask(max_tokens=4, **ASKED[feature]).num_output_tokens, feature


def another_server_goes_on_with_an_answer(served: Served) -> None:
    """As this one does with its own, told what it had said; a near tie may fall otherwise behind the first token."""
    if "resumed_ids" not in served.features:
        return
    free = served.ask(max_tokens=24, ignore_eos=True)
    for had in (1, 7, 23):
        ids = list(free.output_ids[:had])
        rest = served.ask(max_tokens=24, ignore_eos=True, resumed_ids=ids, resumed_chars=3)
        assert rest.output_ids[0] == free.output_ids[had]
        assert free.text[:3] + rest.text == served.decoded((*ids, *rest.output_ids))
        assert (rest.num_input_tokens, rest.num_output_tokens) == (free.num_input_tokens, 24)
        assert rest.finish_reason == FinishReason.LENGTH


def what_no_engine_could_do_is_refused(served: Served) -> None:
    """Before prefill, with the field."""
    with refused(ContextTooLong, "text_input"):
        served.ask("tide " * (served.spec.limits.max_input_len + 64), max_tokens=4)
    with refused(InvalidRequest, "temperature"):
        served.ask(temperature=9.0)


def a_client_that_leaves_frees_its_slot(served: Served) -> None:
    """Long before the request would have ended by itself."""
    cancelled = 'finish_reason="cancelled"'
    before = served.metric("conch_requests_total", cancelled)
    with served.client() as client:
        for _ in client.stream(FRANCE, max_tokens=served.spec.limits.max_seq_len - 64, ignore_eos=True):
            break
    _until(
        lambda: (
            served.metric("conch_requests_total", cancelled) == before + 1
            and not served.metric("conch_requests_active")
        )
    )


def a_crowd_is_served(served: Served) -> None:
    """Every stream whole, whatever the batch; then nothing is left."""
    with ThreadPoolExecutor(CROWD) as pool:
        answers = list(pool.map(lambda _: joined(served.stream(max_tokens=16, ignore_eos=True)), range(CROWD)))
    # A batch may turn a near-tie, so texts are compared with their ids and not with each other.
    for answer in answers:
        assert answer.num_output_tokens == 16
        assert answer.text == served.decoded(answer.output_ids)
    _until(lambda: not served.metric("conch_requests_active") and not served.metric("conch_requests_waiting"))


def the_gateway_speaks_for_it(served: Served) -> None:
    """A chat, streamed and whole."""
    question = [{"role": "user", "content": "Name a sea god."}]
    body = {"model": served.spec.name, "messages": question, "max_tokens": 16, "temperature": 0}
    whole = json.loads(_post(served, body))
    text = whole["choices"][0]["message"]["content"]
    assert text and 0 < whole["usage"]["completion_tokens"] <= 16
    events = [line[6:] for line in _post(served, {**body, "stream": True}).splitlines() if line.startswith("data: {")]
    parts = [choice["delta"].get("content") or "" for event in events for choice in json.loads(event)["choices"]]
    assert "".join(parts) == text


def a_context_is_filled_to_its_end(served: Served) -> None:
    """The answer gets every token that the prompt leaves."""
    limits = served.spec.limits
    prompt = [300 + number % 200 for number in range(limits.max_input_len)]
    answer = served.ask(None, input_ids=prompt, ignore_eos=True)
    assert (answer.num_output_tokens, answer.finish_reason) == (limits.max_seq_len - len(prompt), FinishReason.LENGTH)


Check = Callable[[Served], None]
CHECKS: tuple[Check, ...] = (
    joined_deltas_are_the_one_shot_decode,
    greedy_is_reproducible,
    stop_strings_never_leak,
    an_answer_ends_where_it_is_told,
    the_end_of_sequence_is_an_id_without_text,
    min_tokens_hold_the_end_back,
    guides_are_kept_and_bad_ones_refused,
    log_probs_are_of_the_tokens,
    prompts_are_scored,
    the_token_after_a_scored_prompt_has_alternatives,
    a_seed_repeats_an_answer,
    what_is_declared_works_and_all_else_is_refused_by_name,
    another_server_goes_on_with_an_answer,
    what_no_engine_could_do_is_refused,
    a_client_that_leaves_frees_its_slot,
    a_crowd_is_served,
    the_gateway_speaks_for_it,
)
LONG: tuple[Check, ...] = (a_context_is_filled_to_its_end,)  # minutes on a CPU


def _until(holds: Callable[[], bool], most_s: float = 30) -> None:
    ends = time.monotonic() + most_s
    while not holds():
        assert time.monotonic() < ends, f"not within {most_s:.0f} s"
        time.sleep(0.05)


def _post(served: Served, body: dict[str, Any]) -> str:
    url = f"http://{served.spec.ports.host}:{served.spec.ports.gateway}/v1/chat/completions"
    asked = Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urlopen(asked, timeout=120) as answer:
        return str(answer.read().decode())
