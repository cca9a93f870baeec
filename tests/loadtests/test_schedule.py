"""Schedules and workloads: drawn from a seed, the same everywhere, and refused by the name of the option."""

import argparse
import json
import random
import statistics
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from loadtests.load.fault import LoadError
from loadtests.load.lengths import lengths
from loadtests.load.options import add_arguments, plan_of
from loadtests.load.schedule import schedule
from loadtests.load.workload import QUESTIONS, Ask, Workload, read_prompts


def gaps(arrivals: str, rate: float = 100, seconds: float = 100) -> list[float]:
    times = [arrival.at for arrival in schedule(arrivals, rate, seconds, 7)]
    assert times == sorted(times)
    assert times[-1] < seconds
    return [after - before for before, after in pairwise(times)]


def test_a_seed_is_a_schedule() -> None:
    assert schedule("poisson", 5, 30, 1) == schedule("poisson", 5, 30, 1)
    assert schedule("poisson", 5, 30, 1) != schedule("poisson", 5, 30, 2)


@pytest.mark.parametrize(
    ("arrivals", "variation"), [("constant", 0.0), ("poisson", 1.0), ("gamma:0.25", 2.0), ("gamma:4", 0.5)]
)
def test_rates_and_burstiness(arrivals: str, variation: float) -> None:
    between = gaps(arrivals)
    assert statistics.mean(between) == pytest.approx(0.01, rel=0.05)
    assert statistics.stdev(between) / statistics.mean(between) == pytest.approx(variation, rel=0.1, abs=1e-9)


@pytest.mark.parametrize(
    ("arrivals", "first_half"), [("ramp:0-200", 0.25), ("ramp:200-0", 0.75), ("ramp:100-100", 0.5)]
)
def test_a_ramp(arrivals: str, first_half: float) -> None:
    times = [arrival.at for arrival in schedule(arrivals, 1, 100, 7)]
    assert len(times) == pytest.approx(10_000, rel=0.05)
    assert sum(at < 50 for at in times) / len(times) == pytest.approx(first_half, abs=0.02)


def test_a_trace(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    lines = [
        {"timestamp": 2000, "input_length": 700, "output_length": 20, "hash_ids": [1, 2]},
        {"timestamp": 500, "input_length": 600, "output_length": 9, "hash_ids": [1, 3]},
        {"timestamp": 99_000, "input_length": 1, "output_length": 1},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    first, second = schedule(f"trace:{file}", 0, 10, 1)
    assert (first.at, second.at, second.output_tokens) == (0.5, 2.0, 20)
    workload = Workload(("x",), lengths("64", "--x"))
    one, two = workload.opening(0, first), workload.opening(1, second)
    assert (one.max_tokens, two.max_tokens) == (9, 20)
    shared = len(one.text) * 512 // 600  # the block of 512 tokens that both have
    assert one.text[: shared - 50] == two.text[: shared - 50]
    assert one.text != two.text
    file.write_text('{"timestamp": 1}\n{"time": 2}')
    with pytest.raises(LoadError, match=r"trace.jsonl:2 is no arrival"):
        schedule(f"trace:{file}", 0, 10, 1)


def workload(**kwargs: Any) -> Workload:
    return replace(Workload(read_prompts(QUESTIONS), lengths("64", "--answer-tokens")), **kwargs)


def test_prompts_are_unique_unless_asked_otherwise() -> None:
    assert len({workload().opening(number).text for number in range(500)}) == 500
    assert len({workload(same_prompts=True).opening(number).text for number in range(500)}) == 48
    assert workload().opening(3) == workload().opening(3)


def test_shares_and_lengths() -> None:
    mixed = workload(
        json_share=0.3, tool_share=0.2, cancel_share=0.1, prompt_tokens=lengths("uniform:100-300", "--prompt-tokens")
    )
    asks = [mixed.opening(number) for number in range(2000)]
    assert sum(ask.schema is not None for ask in asks) / 2000 == pytest.approx(0.3, abs=0.04)
    assert sum(bool(ask.tools) for ask in asks) / 2000 == pytest.approx(0.2, abs=0.04)
    assert sum(ask.cancel_after is not None for ask in asks) / 2000 == pytest.approx(0.1, abs=0.03)
    words = [len(ask.text.split()) for ask in asks]
    assert 60 < min(words) < 100 < 200 < max(words) < 300


def test_shared_prefixes() -> None:
    systems = {workload(shared_prefixes=3).opening(number).messages[0]["content"] for number in range(30)}
    assert len(systems) == 3


def test_a_chat_carries_its_history() -> None:
    talk = workload(turns=3)
    first = talk.opening(0)
    second = talk.further(first, "the tide", 0)
    assert second is not None
    assert second.messages[:2] == (*first.messages, {"role": "assistant", "content": "the tide"})
    third = talk.further(second, "the ebb", 0)
    assert third is not None
    assert ([len(ask.messages) for ask in (first, second, third)], third.turn) == ([1, 3, 5], 2)
    assert talk.further(third, "x", 0) is None
    assert third.text.startswith("user: Note")
    assert third.text.endswith("assistant:")
    assert Ask(({"role": "user", "content": "alone"},), 1).text == "alone"


@pytest.mark.parametrize(
    ("text", "mean", "low", "high"),
    [
        ("64", 64, 64, 64),
        ("uniform:10-30", 20, 10, 30),
        ("normal:100,10", 100, 40, 160),
        ("lognormal:100,0.5", 113, 5, 900),
    ],
)
def test_lengths(text: str, mean: float, low: int, high: int) -> None:
    rng = random.Random(1)
    drawn = [lengths(text, "--answer-tokens").draw(rng) for _ in range(4000)]
    assert statistics.mean(drawn) == pytest.approx(mean, rel=0.05)
    assert low <= min(drawn) <= max(drawn) <= high


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--rate", "0"], "--rate: must be above 0"),
        (["--rate", "1e9"], "more than 1,000,000 requests"),
        (["--arrivals", "weekly"], "--arrivals: 'weekly' is no schedule"),
        (["--arrivals", "gamma:0"], "--arrivals: 'gamma:0' is no schedule"),
        (["--arrivals", "trace:/no/such"], "--arrivals: /no/such cannot be read"),
        (["--arrivals", "poisson", "--rate", "0.001"], "plans no request within 60 s"),
        (["--answer-tokens", "long"], "--answer-tokens: 'long' is no distribution"),
        (["--prompt-tokens", "uniform:9-3"], "--prompt-tokens: 'uniform:9-3' must begin"),
        (["--prompts", "/no/such"], "--prompts: /no/such cannot be read"),
        (["--seconds", "5"], "--warm-up and --cool-down leave nothing of --seconds 5"),
        (["--turns", "0"], "--turns: must be 1 or more"),
        (["--cancel-share", "2"], "--cancel-share: must be from 0 to 1"),
        (["--json-share", "0.6", "--tool-share", "0.6"], "more than the whole"),
        (["--transport", "triton-http", "--tool-share", "0.1"], "--tool-share: Triton's tensors know no tools"),
        (["--transport", "triton-grpc", "--extra", '{"ignore_oes": 1}'], "--extra: 'ignore_oes' is no input"),
        (["--extra", "[1]"], "--extra: must be a JSON object"),
        (["--extra", "{"], "--extra: '{' is not JSON"),
        (["--slo", "latency<5"], "--slo: 'latency<5' is no objective"),
        (["--slo-percentile", "0"], "--slo-percentile: must be above 0"),
        (["--fail-on", "luck"], "--fail-on: 'luck' is neither slo nor regression"),
        (["--fail-on", "regression"], "--fail-on regression needs --baseline"),
        (["--baseline", "/no/such"], "--baseline: no file /no/such"),
        (["--host", "http://"], "--host: 'http://' names no server"),
        (["--timeout", "0"], "--timeout: must be above 0"),
        (["--think", "-1"], "--think: must not be below 0"),
    ],
)
def test_what_is_wrong_is_named(options: list[str], says: str) -> None:
    known = argparse.ArgumentParser()
    known.add_argument("--host", default="http://127.0.0.1:1")
    add_arguments(known)
    with pytest.raises(LoadError) as refused:
        plan_of(known.parse_args(options))
    assert says in str(refused.value)


def test_what_no_command_line_takes_is_refused_too() -> None:
    known = argparse.ArgumentParser()
    add_arguments(known)
    options = argparse.Namespace(**vars(known.parse_args([])) | {"host": "http://127.0.0.1:1", "transport": "pigeon"})
    with pytest.raises(LoadError, match=r"--transport: .*got 'pigeon'"):
        plan_of(options)


@pytest.mark.parametrize("content", ["", '{"prompt": 5}', "no json"])
def test_prompt_files_that_are_none(tmp_path: Path, content: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(content)
    with pytest.raises(LoadError, match="--prompts"):
        read_prompts(file)
    plain = tmp_path / "prompts.txt"
    plain.write_text("one\n\ntwo\n")
    assert read_prompts(plain) == ("one", "two")
