"""Two real servers behind one gateway: they share the load, and one goes on with what the other was answering."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from contract.address import free_ports
from contract.errors import Unavailable
from gateway.replicas import Replicas
from serving.supervisor import Running
from tests.e2e.servers import CODE, samples, synthetic
from tests.gateway import conftest
from tests.gateway.conftest import CHAT, COUNT, active

until = partial(conftest.until, seconds=30)
LONG = {"model": "synthetic", "prompt": "the sea " * 40, "max_tokens": 400, "stream": True, "ignore_eos": True}


@contextmanager
def door(tmp_path: Path, *servers: Running, processes: int = 1, routing: str = "prefix") -> Iterator[httpx.Client]:
    """A gateway before these servers, and a place where none is."""
    port, nobody = free_ports(2)
    addresses = [f"127.0.0.1:{server.spec.ports.grpc}" for server in servers] + [f"127.0.0.1:{nobody}"]
    spec = servers[0].spec.model_dump(mode="json", exclude_unset=True)
    spec["ports"]["gateway"] = port
    spec["gateway"] = {"replicas": addresses, "processes": processes, "routing": routing}
    config = tmp_path / "gateway.yaml"
    config.write_text(yaml.safe_dump(spec))
    process = subprocess.Popen((sys.executable, "-m", "gateway", str(config)), cwd=CODE)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            until(lambda: up(client) == len(servers))
            yield client
    finally:
        process.kill()  # without draining
        process.wait()


def up(client: httpx.Client) -> float:
    """How many servers the gateway finds live; -1 where it does not answer."""
    try:
        return conftest.gauge(client, "conch_gateway_replica_up")
    except httpx.TransportError:
        return -1


class Stream(threading.Thread):
    """One streamed completion."""

    def __init__(self, client: httpx.Client, **changed: Any) -> None:
        super().__init__()
        self._client, self._body = client, LONG | changed
        self.text, self.error, self.status, self.whole = "", "", 0, False
        self.start()

    def run(self) -> None:
        with (
            suppress(httpx.TransportError),
            self._client.stream("POST", "/v1/completions", json=self._body) as response,
        ):
            self.status = response.status_code
            if self.status != 200:
                self.error = json.loads(response.read())["error"]["message"]
                return
            for line in response.iter_lines():
                if line == "data: [DONE]":
                    self.whole = True
                elif line.startswith("data: "):
                    event = json.loads(line.removeprefix("data: "))
                    self.error = event["error"]["message"] if "error" in event else self.error
                    self.text += "".join(choice["text"] for choice in event.get("choices", []))


def all_answered(client: httpx.Client) -> bool:
    """Whether four short requests at once are."""
    streams = [Stream(client, max_tokens=2) for _ in range(4)]
    for stream in streams:
        stream.join(30)
    return all(stream.whole and not stream.error for stream in streams)


def kill(server: Running) -> None:
    """The machine is switched off."""
    supervisor = psutil.Process(server.supervisor_pid)
    for process in (supervisor, *supervisor.children(recursive=True)):
        os.kill(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Running]]:
    """Both live; the last test kills them."""
    roots = (tmp_path_factory.mktemp(name) for name in "ab")
    with synthetic(next(roots), max_input_len=2048) as first, synthetic(next(roots), max_input_len=2048) as second:
        yield first, second


def test_load_is_shared_and_a_server_that_says_nothing_any_more_is_left(
    two: tuple[Running, Running], tmp_path: Path
) -> None:
    first, second = two
    with door(tmp_path, first, second) as client:
        streams = [Stream(client, max_tokens=2000) for _ in range(8)]
        until(lambda: all(stream.text for stream in streams))
        until(lambda: (active(first), active(second)) == (4, 4))
        os.kill(second.pid, signal.SIGSTOP)
        try:
            until(lambda: up(client) == 1)
            until(lambda: active(first) == 8)  # not whenever TCP gives up
            late = Stream(client, max_tokens=4)
            counted = client.post(COUNT, json={"model": "synthetic", "messages": conftest.user("x")})
            assert counted.json() == {"input_tokens": 8}
            late.join(30)
            assert late.whole
        finally:
            os.kill(second.pid, signal.SIGCONT)
        until(lambda: up(client) == 2)  # and is taken back
        for stream in streams:
            stream.join(60)
        assert {stream.text for stream in streams} == {"the sea " * 250}
        assert all(stream.whole and not stream.error for stream in streams)


def answers(client: httpx.Client) -> dict[str, float]:
    """What each server has answered."""
    return samples(client.get("/metrics").text, "conch_gateway_replica_answers_total")


def asked(client: httpx.Client, text: str, **headers: str) -> None:
    """One turn of a conversation, and its end in the books."""
    before = sum(answers(client).values())
    body = {"model": "synthetic", "messages": conftest.user(text), "max_tokens": 2}
    assert client.post(CHAT, json=body, headers=headers).status_code == 200
    until(lambda: sum(answers(client).values()) == before + 1)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_conversation_stays_where_it_is(two: tuple[Running, Running], tmp_path: Path, processes: int) -> None:
    with door(tmp_path, *two, processes=processes) as client:
        homes = set()
        for number in range(8):
            before = answers(client)
            for turns in range(1, 4):
                asked(client, f"{number} {'the tide turns ' * 40 * turns}")
            after = answers(client)
            (home,) = (server for server in after if after[server] != before.get(server, 0))
            homes.add(home)
        assert len(homes) == 2
        known, prompts = (
            conftest.gauge(client, f"conch_gateway_prompt_tokens{name}_total") for name in ("_expected_cached", "")
        )
        assert 0 < known < prompts
        assert samples(client.get("/metrics").text, "conch_gateway_prompt_tokens_cached_total") == {
            'model="synthetic"': 0  # as this engine tells
        }


@pytest.mark.parametrize("header", ["X-Session-Id", "session_id", "X-Claude-Code-Session-Id"])
def test_a_session_stays_where_it_is(two: tuple[Running, Running], tmp_path: Path, header: str) -> None:
    with door(tmp_path, *two, processes=2) as client:
        for number in range(6):
            asked(client, f"{number} {'another matter ' * 40}", **{header: "one"})
        assert len(answers(client)) == 1


def test_who_finds_a_door_shut_leaves_it_alone() -> None:
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]

    async def ask() -> None:
        replicas = Replicas(addresses, "synthetic", 1, watches=False)
        for replica in replicas.members:
            await replica.turn(True)
        first, second = replicas.members
        with pytest.raises(Unavailable, match=r"none of the 2 servers could take this request \(2 are up\)"):
            async for _ in replicas.deltas({"text_input": "x", "stream": True}):
                pass
        assert first.shunned and second.shunned
        assert replicas._able(set()) == [first, second], "better than none"
        second._shunned_until = 0.0
        assert replicas._able(set()) == [second]
        await replicas.close()

    asyncio.run(ask())


def test_what_a_server_that_dies_was_answering_goes_on(two: tuple[Running, Running], tmp_path: Path) -> None:
    first, second = two
    with door(tmp_path, first, second) as client:
        until(lambda: (active(first), active(second)) == (0, 0))  # of the test before
        until(lambda: all_answered(client))  # what was late in the test before is forgotten
        streams = [Stream(client, stream_options={"include_usage": True}) for _ in range(4)]
        until(lambda: all(stream.text for stream in streams))
        answers: list[httpx.Response] = []
        unstreamed = [  # they say nothing until they are whole, so each of them can begin anew
            threading.Thread(
                target=lambda: answers.append(client.post("/v1/completions", json=LONG | {"stream": False}))
            )
            for _ in range(4)
        ]
        for thread in unstreamed:
            thread.start()
        until(lambda: (active(first), active(second)) == (4, 4))
        kill(second)
        for thread in (*streams, *unstreamed):
            thread.join(60)
        assert [stream.error for stream in streams] == [""] * 4
        assert [stream.text for stream in streams] == [("the sea " * 50)] * 4
        assert all(stream.whole for stream in streams)
        assert [answer.status_code for answer in answers] == [200] * 4
        assert all(answer.json()["usage"]["completion_tokens"] == 400 for answer in answers)
        kill(first)
        until(lambda: up(client) == 0)
        refused = Stream(client)
        refused.join(30)
        assert refused.status == 503
        assert refused.error == "none of the 3 servers could take this request (0 are up). Try again later"
