"""The ways to ask one engine: its own server or its bare process, our ensemble, our gateway. All are asked alike."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from tokenizers import Tokenizer

from clients.grpc import Client
from contract.errors import ConchError, ServeError
from loadtests import own_server
from loadtests.bench import RawEngine
from loadtests.compare.entrants import Entrant
from loadtests.fleet import Fleet
from loadtests.lean import Order, Timeline, run
from loadtests.load.fault import StreamFault
from loadtests.load.rows import Row
from loadtests.load.streams.openai import OpenAI
from loadtests.load.streams.target import Target, clock_from
from loadtests.load.workload import Ask
from loadtests.meter import family
from loadtests.served import free_ports, served

ALONE, ENSEMBLE, GATEWAY = "alone", "ensemble", "gateway"
_CHAT_S = 120.0  # that a chat may take

Requests = list[dict[str, Any]]  # prompt: ids, max_tokens, ignore_eos: as loadtests/lean.py takes them


class Absent(ConchError):
    """There is nothing to measure here, and asking again will not change it."""


@dataclass(frozen=True)
class Door:
    """One way to ask."""

    way: str
    command: str  # what starts it
    ask: Callable[[Requests, int], list[Timeline]]  # with so many in flight
    chat: Callable[[str, dict[str, Any]], str]  # one question whose answer must follow a JSON schema
    load: tuple[str, str, str] | None  # transport, host and model for loadtests.load; none: it has no address
    roots: Callable[[], list[psutil.Process]]  # whose memory it uses


@dataclass(frozen=True)
class Visit:
    """An engine that runs now."""

    start_s: float  # from its command to the first token
    doors: tuple[Door, ...]


@contextmanager
def alone(entrant: Entrant, clients: int, log: Path) -> Iterator[Visit]:
    """The engine without us.

    Raises:
        Absent: it has no way to be run so.
        ServeError: it does not start.
    """
    if entrant.spec.engine.runtime == "openvino":
        with _raw(entrant) as visit:
            yield visit
        return
    if entrant.engine is None or not own_server.known(entrant.spec.engine.runtime):
        raise Absent(f"runtime {entrant.spec.engine.runtime} has no server of its own here")
    port = free_ports(1)[0]
    command = own_server.command(entrant.engine, entrant.spec, port)
    begun = time.monotonic()
    with own_server.own_server(entrant.engine, entrant.spec, port, log) as process:
        way = own_server.LEAN_WAY.get(entrant.spec.engine.runtime, "openai")
        url = f"http://127.0.0.1:{port}"
        door = Door(
            ALONE,
            " ".join(command),
            _asker(way, "127.0.0.1", port, own_server.MODEL, clients),
            _openai_chat(url, own_server.MODEL),
            ("openai-text", url, own_server.MODEL),
            lambda: [psutil.Process(process.pid)],
        )
        yield _started(door, begun, entrant)


@contextmanager
def ours(entrant: Entrant, clients: int) -> Iterator[Visit]:
    """The engine in our ensemble, and the gateway before it.

    Raises:
        ServeError: it does not start.
    """
    spec, command = entrant.spec, f"make serve CONFIG={entrant.config}"
    ports = spec.ports
    begun = time.monotonic()
    with served(entrant.served) as server_pid:
        address = f"{ports.host}:{ports.grpc}"
        door = Door(
            ENSEMBLE,
            command,
            _asker("grpc", ports.host, ports.grpc, spec.name, clients),
            _grpc_chat(address),
            ("triton-grpc", address, spec.name),
            lambda: [psutil.Process(server_pid)],
        )
        visit = _started(door, begun, entrant)
        url = f"http://{spec.gateway.host}:{ports.gateway}"
        gateway = family("gateway", str(entrant.served.resolve()))
        through_it = Door(
            GATEWAY,
            command,
            _asker("openai", spec.gateway.host, ports.gateway, spec.name, clients),
            _openai_chat(url, spec.name),
            ("openai-text", url, spec.name),
            lambda: [psutil.Process(server_pid), *gateway()],
        )
        yield Visit(visit.start_s, (door, through_it) if spec.gateway.enabled else (door,))


@contextmanager
def _raw(entrant: Entrant) -> Iterator[Visit]:
    """OpenVINO GenAI has no server: its bare pipeline, stepped in a loop."""
    assert entrant.engine is not None
    begun = time.monotonic()
    tokenizer = Tokenizer.from_file(str(entrant.engine / "tokenizer.json"))
    with closing(RawEngine(entrant.served, entrant.engine)) as raw:

        def burst(requests: Requests) -> list[Timeline]:
            sent = time.time()
            answer = raw.answers([each["prompt"] for each in requests], requests[0]["max_tokens"])
            return [
                Timeline(
                    sent, [(sent + at, 1) for at in times], tokenizer.decode(ids, skip_special_tokens=True), "length"
                )
                for ids, times in zip(answer["ids"], answer["times"], strict=True)
            ]

        def ask(requests: Requests, streams: int) -> list[Timeline]:
            bursts = [requests[at : at + streams] for at in range(0, len(requests), streams)]
            return [timeline for each in bursts for timeline in burst(each)]

        def chat(question: str, schema: dict[str, Any]) -> str:
            raise Absent("the bare pipeline takes token ids and no schema")

        door = Door(
            ALONE,
            f"python -m python_backend.openvino.raw {entrant.config} engines/{entrant.name}/current",
            ask,
            chat,
            None,
            lambda: [psutil.Process(raw.pid)],
        )
        yield _started(door, begun, entrant)


def _started(door: Door, begun: float, entrant: Entrant) -> Visit:
    """The start is over with the first token."""
    whole([{"prompt": [entrant.tokens[0]], "max_tokens": 1}], door.ask, 1)
    return Visit(round(time.monotonic() - begun, 2), (door,))


def whole(requests: Requests, ask: Callable[[Requests, int], list[Timeline]], streams: int) -> list[Timeline]:
    """Answers that all came.

    Raises:
        ServeError: one did not.
    """
    lines = ask(requests, streams)
    failed = [each.error or "no token came" for each in lines if each.error or not each.deltas]
    if failed:
        raise ServeError(f"{len(failed)} of {len(requests)} requests failed: {failed[0]}")
    return lines


def _asker(way: str, host: str, port: int, model: str, clients: int) -> Callable[[Requests, int], list[Timeline]]:
    """From this process, or from several."""

    def ask(requests: Requests, streams: int) -> list[Timeline]:
        order = Order(way, host, port, model, requests, streams)
        if min(streams, clients) == 1:
            return asyncio.run(run(order))
        return Fleet(order, clients).wait().timelines

    return ask


def _openai_chat(url: str, model: str) -> Callable[[str, dict[str, Any]], str]:
    stream = OpenAI(Target(url, model, _CHAT_S), chat=True)

    def chat(question: str, schema: dict[str, Any]) -> str:
        ask = Ask(({"role": "user", "content": question},), _chat_tokens(schema), schema=schema)
        try:
            return stream(ask, Row(number=0, intended=0.0), clock_from(time.time()))
        except StreamFault as fault:
            raise ServeError(f"{fault.outcome}: {fault.detail}") from None

    return chat


def _grpc_chat(address: str) -> Callable[[str, dict[str, Any]], str]:
    def chat(question: str, schema: dict[str, Any]) -> str:
        with Client(address) as client:
            answer = client.generate(
                messages=[{"role": "user", "content": question}],
                max_tokens=_chat_tokens(schema),
                guided_decoding_guide_type="json_schema",
                guided_decoding_guide=json.dumps(schema),
                timeout_s=_CHAT_S,
            )
        return answer.text

    return chat


def _chat_tokens(schema: dict[str, Any]) -> int:
    """Room for any answer that the schema allows, one character a token, and some white space."""
    return 64 + 2 * len(json.dumps(schema))
