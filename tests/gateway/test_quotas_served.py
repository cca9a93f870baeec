"""Quotas, classes and the ledger at the door of a real gateway, of one process and of two."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from contract.quota import Quota
from serving.supervisor import Running
from tests.e2e.servers import samples
from tests.gateway.conftest import CHAT, TEXT, gateway, gauge, streaming, until, user
from tests.gateway.test_keys import new_key, refused_start

SHORT: dict[str, Any] = {"model": "synthetic", "prompt": "x", "max_tokens": 2}
LONG: dict[str, Any] = SHORT | {"max_tokens": 400, "ignore_eos": True}


@contextmanager
def keyed(server: Running, tmp_path: Path, *names: str, **door: Any) -> Iterator[list[httpx.Client]]:
    """A gateway, and a client of each key."""
    file = tmp_path / "keys"
    keys = [new_key(file, name) for name in names]
    with gateway(server, tmp_path, keys=file, **door) as (_, http):
        clients = [
            httpx.Client(base_url=http.base_url, timeout=30, headers={"authorization": f"Bearer {key}"}) for key in keys
        ]
        yield clients
        for client in clients:
            client.close()


def ended(http: httpx.Client, **labels: str) -> float:
    """Requests of a key, by how they ended."""
    found = samples(http.get("/metrics").text, "conch_gateway_key_requests_total")
    return sum(
        value for text, value in found.items() if all(f'{name}="{word}"' in text for name, word in labels.items())
    )


@pytest.mark.parametrize("processes", [1, 2])
def test_a_key_at_its_quota_is_told_when_and_others_are_unharmed(
    behind: Running, tmp_path: Path, processes: int
) -> None:
    quotas = {"ann": Quota(requests_per_minute=3)}
    with keyed(behind, tmp_path, "ann", "bob", processes=processes, quotas=quotas) as (ann, bob):
        for left in (2, 1, 0):
            answer = ann.post(TEXT, json=SHORT)
            assert answer.status_code == 200
            assert answer.headers["x-ratelimit-limit-requests"] == "3"
            assert answer.headers["x-ratelimit-remaining-requests"] == str(left)
            assert "x-ratelimit-limit-tokens" not in answer.headers
        for _ in range(4):  # whichever process it meets
            with httpx.Client(base_url=ann.base_url, headers=ann.headers) as new:
                refused = new.post(TEXT, json=SHORT)
            assert refused.status_code == 429
            error = refused.json()["error"]
            assert error["code"] == "rate_limit_exceeded"
            assert error["message"].startswith("the quota of key ann is 3 requests a minute")
            assert 1 <= int(refused.headers["retry-after"]) <= 20
            assert refused.headers["x-ratelimit-remaining-requests"] == "0"
            assert refused.headers["x-ratelimit-reset-requests"].endswith("s")
            assert bob.post(TEXT, json=SHORT).status_code == 200
        until(lambda: ended(bob, key="ann", outcome="over_quota") == 4)
        assert ended(bob, key="ann", outcome="answered") == 3
        assert ended(bob, key="bob", outcome="answered") == 4
        assert "over_quota" in bob.get("/metrics").text


def test_tokens_are_charged_for_what_may_come_and_settled_by_what_came(behind: Running, tmp_path: Path) -> None:
    with keyed(behind, tmp_path, "ann", quotas={"default": Quota(tokens_per_minute=1000)}) as (ann,):
        with streaming(ann, LONG | {"max_tokens": 900}):
            refused = ann.post(TEXT, json=SHORT | {"max_tokens": 900})
            assert refused.status_code == 429
            assert "1000 tokens a minute" in refused.json()["error"]["message"]
        until(lambda: int(ann.post(TEXT, json=SHORT).headers["x-ratelimit-remaining-tokens"]) > 800)


def test_a_request_beyond_a_minutes_tokens_is_refused_by_name(behind: Running, tmp_path: Path) -> None:
    with keyed(behind, tmp_path, "ann", quotas={"ann": Quota(tokens_per_minute=100)}) as (ann,):
        refused = ann.post(CHAT, json={"model": "synthetic", "messages": user("x"), "max_completion_tokens": 200})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "max_completion_tokens")
        assert "the quota of key ann is 100 a minute. Give a smaller" in refused.json()["error"]["message"]
        assert ann.post(TEXT, json=SHORT).status_code == 200


def test_what_the_stages_refuse_costs_no_tokens(behind: Running, tmp_path: Path) -> None:
    with keyed(behind, tmp_path, "ann", quotas={"ann": Quota(tokens_per_minute=9000)}) as (ann,):
        long = ann.post(TEXT, json=SHORT | {"prompt": [65] * 5000})
        assert (long.status_code, long.json()["error"]["code"]) == (400, "context_length_exceeded")
        assert ann.post(TEXT, json=SHORT).headers["x-ratelimit-remaining-tokens"] >= "8990"


def test_without_keys_all_share_the_default(behind: Running, tmp_path: Path) -> None:
    with gateway(behind, tmp_path, quotas={"default": Quota(requests_per_minute=1)}) as (_, http):
        assert http.post(TEXT, json=SHORT).status_code == 200
        refused = http.post(TEXT, json=SHORT)
        assert refused.json()["error"]["message"].startswith("the quota is 1 requests a minute")
        assert samples(http.get("/metrics").text, "conch_gateway_key_requests_total") == {}


def test_openais_and_anthropics_clients_see_their_rate_limits(behind: Running, tmp_path: Path) -> None:
    with keyed(behind, tmp_path, "ann", quotas={"ann": Quota(requests_per_minute=2)}) as (ann,):
        key = ann.headers["authorization"].removeprefix("Bearer ")
        theirs = openai.OpenAI(base_url=f"{ann.base_url}/v1", api_key=key, max_retries=0)
        with theirs.chat.completions.with_streaming_response.create(
            model="synthetic", messages=[{"role": "user", "content": "x"}], max_tokens=2, stream=True
        ) as stream:
            assert stream.headers["x-ratelimit-remaining-requests"] == "1"
            list(stream.iter_lines())
        assert theirs.completions.create(**SHORT).usage
        with pytest.raises(openai.RateLimitError) as limited:
            theirs.completions.create(**SHORT)
        assert int(limited.value.response.headers["retry-after"]) <= 30
        claude = anthropic.Anthropic(base_url=str(ann.base_url), api_key=key, max_retries=0)
        with pytest.raises(anthropic.RateLimitError) as refused:
            claude.messages.create(model="synthetic", max_tokens=2, messages=[{"role": "user", "content": "x"}])
        headers = refused.value.response.headers
        assert headers["anthropic-ratelimit-requests-limit"] == "2"
        assert headers["anthropic-ratelimit-requests-remaining"] == "0"
        assert headers["anthropic-ratelimit-requests-reset"].endswith("Z")
        assert not any(name.startswith("x-ratelimit") for name in headers)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_flood_of_batch_requests_leaves_room(behind: Running, tmp_path: Path, processes: int) -> None:
    classes = {"nightly": Quota(priority="batch")}
    door: dict[str, Any] = {"quotas": classes, "max_requests": 4, "batch_share": 0.5, "max_queue_size": 6}
    with (
        keyed(behind, tmp_path, "nightly", "ann", processes=processes, **door) as (nightly, ann),
        ThreadPoolExecutor(12) as pool,
    ):
        flood = [pool.submit(nightly.post, TEXT, json=LONG) for _ in range(12)]
        until(lambda: gauge(ann, "conch_gateway_requests_waiting") == 6)
        assert gauge(ann, "conch_gateway_requests_active") == 2
        with streaming(ann, LONG), streaming(ann, LONG):
            assert gauge(ann, "conch_gateway_requests_active") == 4
            third = pool.submit(ann.post, TEXT, json=SHORT)
            until(lambda: ended(ann, key="nightly", outcome="overloaded") == 5)  # four at once, one gave way
        assert third.result().status_code == 200
        statuses = [each.result().status_code for each in flood]
    assert sorted(statuses)[-5:] == [429] * 5


@pytest.mark.parametrize("processes", [1, 2])
def test_the_ledger_has_every_request_once_and_no_word_of_it(behind: Running, tmp_path: Path, processes: int) -> None:
    path = tmp_path / "ledger.jsonl"
    with keyed(behind, tmp_path, "ann", processes=processes, ledger=path) as (ann,):
        for number in range(6):
            with httpx.Client(base_url=ann.base_url, headers=ann.headers) as new:
                asked = SHORT | {"prompt": "a secret"}
                assert new.post(TEXT, json=asked, headers={"x-request-id": f"r{number}"}).status_code == 200
        with streaming(ann, LONG):
            pass
        assert ann.post(TEXT, json=SHORT | {"prompt": [65] * 5000}).status_code == 400
        assert ann.get("/v1/models").status_code == 200
        until(lambda: len(path.read_text().splitlines()) == 8)
        tokens = samples(ann.get("/metrics").text, "conch_gateway_key_tokens_total")
    text = path.read_text()
    assert "secret" not in text
    lines = [json.loads(line) for line in text.splitlines()]
    whole, (left,), (refused,) = (
        [line for line in lines if line["finish_reason"] == reason]
        for reason in ("length", "", "context_length_exceeded")
    )
    assert {line["id"] for line in whole} == {f"r{number}" for number in range(6)}
    assert {(line["key"], line["status"], line["completion_tokens"]) for line in whole} == {("ann", 200, 2)}
    assert left["ttft_s"] > 0
    assert 1 <= left["completion_tokens"] < 400  # what came of it
    assert (refused["status"], refused["completion_tokens"]) == (400, 0)
    assert sum(tokens.values()) == sum(line["prompt_tokens"] + line["completion_tokens"] for line in lines)


def test_a_ledger_that_cannot_be_written_holds_nobody_up(behind: Running, tmp_path: Path) -> None:
    with gateway(behind, tmp_path, ledger=tmp_path / "no" / "ledger") as (_, http):
        assert [http.post(TEXT, json=SHORT).status_code for _ in range(3)] == [200] * 3


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{quotas: {ann: {request_per_minute: 3}}}", "did you mean requests_per_minute?"),
        ("{quotas: {ann: {tokens_per_minute: -1}}}", "gateway.quotas.ann.tokens_per_minute: "),
        ("{quotas: {ann: {priority: low}}}", "gateway.quotas.ann.priority: "),
        ("{quotas: {a b: {}}}", "gateway.quotas.a b"),
        ("{batch_share: 0}", "gateway.batch_share: "),
    ],
)
def test_what_is_no_quota_is_refused_with_its_line(tmp_path: Path, section: str, said: str) -> None:
    told = refused_start(tmp_path, section)
    assert "site.yaml:3: " in told
    assert said in told
