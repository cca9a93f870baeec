"""What no API defines, but every client meets: limits, clients that leave, servers that die or stop. Ours only."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from serving.supervisor import Running
from tests.conformance.own import KEY, target_of
from tests.conformance.target import DONE, Target, check_error, data, user
from tests.e2e.servers import samples, synthetic

METRICS = {
    "conch_gateway_requests_total",
    "conch_gateway_time_to_first_token_seconds",
    "conch_gateway_e2e_seconds",
    "conch_gateway_queue_seconds",
    "conch_gateway_prompt_tokens_total",
    "conch_gateway_prompt_tokens_cached_total",
    "conch_gateway_prompt_tokens_expected_cached_total",
    "conch_gateway_replica_answers_total",
    "conch_gateway_generated_tokens_total",
    "conch_gateway_key_requests_total",
    "conch_gateway_key_tokens_total",
    "conch_gateway_requests_active",
    "conch_gateway_tokens_active",
    "conch_gateway_requests_waiting",
    "conch_gateway_replica_up",
}


@pytest.fixture(autouse=True)
def _only_ours(own: Target) -> None:
    """Against another server, none of this runs."""


@contextmanager
def small(root: Path) -> Iterator[tuple[Running, httpx.Client, dict[str, Any]]]:
    """A server that takes two requests, says a token every 20 ms, and lets none wait; and a request of 10 s."""
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("CONCH_API_KEYS", KEY)
        gateway: dict[str, object] = {"max_requests": 2, "max_queue_size": 0}
        server = stack.enter_context(synthetic(root, step_ms=20, gateway=gateway))
        target = target_of(server)
        http = stack.enter_context(httpx.Client(base_url=target.base_url, headers=target.headers, timeout=60))
        yield server, http, {"model": target.model, "messages": user("tide"), "max_tokens": 500, "stream": True}


def until(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def active(http: httpx.Client) -> float:
    """Requests in flight, as /metrics tells."""
    page = http.get(f"{origin(http)}/metrics").text
    (value,) = samples(page, "conch_gateway_requests_active").values()
    return value


def origin(http: httpx.Client) -> str:
    return str(http.base_url).removesuffix("/v1/")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, httpx.Client, dict[str, Any]]]:
    with small(tmp_path_factory.mktemp("small")) as made:
        yield made


Small = tuple[Running, httpx.Client, dict[str, Any]]


def test_at_the_limit_is_429_and_says_when(server: Small) -> None:
    _, http, body = server
    with ExitStack() as streams:
        running = [data(streams.enter_context(http.stream("POST", "/chat/completions", json=body))) for _ in range(2)]
        assert all("choices" in next(chunks) for chunks in running)
        refused = http.post("/chat/completions", json=body)
        check_error(refused, 429)
        assert int(refused.headers["retry-after"]) >= 1
        client = OpenAI(base_url=str(http.base_url), api_key=KEY, max_retries=0)
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model=body["model"], messages=user("Hi"))
    until(lambda: active(http) == 0, 5)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])
def test_a_client_that_leaves_frees_its_place(server: Small, stream: bool) -> None:
    _, http, body = server
    if stream:
        with http.stream("POST", "/chat/completions", json=body) as answer:
            chunks = data(answer)  # dropping it would close the response
            next(chunks)
            assert active(http) == 1
    else:
        with pytest.raises(httpx.ReadTimeout):
            http.post("/chat/completions", json=body | {"stream": False}, timeout=0.5)
    until(lambda: active(http) == 0, 2)


def test_names_of_metrics(server: Small) -> None:
    _, http, body = server
    assert http.post("/chat/completions", json=body | {"max_tokens": 2, "stream": False}).status_code == 200
    page = http.get(f"{origin(http)}/metrics").text
    kinds = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE conch_gateway")}
    assert {name for name in kinds if not name.endswith("_created")} == METRICS


def test_death_in_the_middle_of_a_stream_is_an_error_event(tmp_path: Path) -> None:
    """The stream ends with an error, live is live, and ready is not until the server is back."""
    with small(tmp_path) as (running, http, body):
        ready = f"{origin(http)}/health/ready"
        assert http.get(ready).status_code == 200
        with http.stream("POST", "/chat/completions", json=body) as answer:
            chunks = data(answer)
            for _ in range(3):
                assert "choices" in next(chunks)
            os.kill(running.pid, signal.SIGKILL)
            *_, last = chunks
        assert set(last) == {"error"}
        assert set(last["error"]) >= {"message", "type", "param", "code"}
        until(lambda: http.get(ready).status_code == 503, 5)
        assert http.get(f"{origin(http)}/health/live").status_code == 200
        until(lambda: http.get(ready).status_code == 200, 30)


def test_sigterm_drains(tmp_path: Path) -> None:
    """What runs is finished; what comes is refused."""
    with small(tmp_path) as (running, http, body):
        with http.stream("POST", "/chat/completions", json=body | {"max_tokens": 100}) as answer:
            chunks = data(answer)
            next(chunks)
            os.kill(running.supervisor_pid, signal.SIGTERM)
            until(lambda: refuses(http, body), 5)
            found = list(chunks)
        assert found[-1] == DONE
        assert found[-2]["choices"][0]["finish_reason"] == "length"


def refuses(http: httpx.Client, body: dict[str, Any]) -> bool:
    """A new request is refused as OpenAI's clients understand it, or the door is shut."""
    try:
        answer = http.post("/chat/completions", json=body | {"max_tokens": 1, "stream": False})
    except httpx.ConnectError:
        return True
    if answer.status_code == 200:
        return False
    check_error(answer, 503)
    return True
