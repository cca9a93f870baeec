"""The ways to ask one engine: its own server or its bare process, our ensemble, its stage, our gateway; all alike."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from clients.grpc import Client
from contract.address import free_ports
from contract.errors import ConchError, ServeError
from contract.tensors import stage_names
from loadtests import own_server
from loadtests.compare.effort import ALONE, DIRECT, ENSEMBLE, GATEWAY, HTTP
from loadtests.compare.entrants import Entrant
from loadtests.family import with_words
from loadtests.fleet import Asker, asker
from loadtests.load.fault import StreamFault
from loadtests.load.rows import Row
from loadtests.load.streams.openai import OpenAI
from loadtests.load.streams.target import Target, clock_from
from loadtests.load.workload import Ask
from loadtests.raw_engine import RawEngine
from loadtests.served import served
from loadtests.timelines import whole

_CHAT_S = 120.0  # that a chat may take


class Absent(ConchError):
    """There is nothing to measure here, and asking again will not change it."""


@dataclass(frozen=True)
class Door:
    """One way to ask an engine that runs now."""

    way: str
    command: str  # what started it
    ask: Asker
    chat: Callable[[str, dict[str, Any]], str]  # one question whose answer must follow a JSON schema
    load: tuple[str, str, str] | None  # transport, host and model for loadtests.load; none: it has no address
    roots: Callable[[], list[psutil.Process]]  # whose memory it uses
    start_s: float = 0.0  # from its command to the first token


@contextmanager
def alone(entrant: Entrant, clients: int, log: Path) -> Iterator[tuple[Door, ...]]:
    """The engine without us.

    Raises:
        Absent: it has no way to be run so.
        ServeError: it does not start.
    """
    runtime = entrant.spec.engine.runtime
    if runtime == "openvino":
        with _raw(entrant) as doors:
            yield doors
        return
    if entrant.engine is None or runtime not in own_server.SERVERS:
        raise Absent(f"runtime {runtime} has no server of its own here")
    port = free_ports(1)[0]
    command = " ".join(own_server.command(entrant.engine, entrant.spec, port))
    begun = time.monotonic()
    with own_server.own_server(entrant.engine, entrant.spec, port, log) as process:
        where, way = ("127.0.0.1", port, own_server.MODEL), own_server.SERVERS[runtime].way
        door = _openai(ALONE, command, where, lambda: [psutil.Process(process.pid)], clients=clients, lean_way=way)
        yield (_started(door, begun, entrant),)


@contextmanager
def ours(entrant: Entrant, clients: int) -> Iterator[tuple[Door, ...]]:
    """The engine in our ensemble, its stage asked itself, and the gateway before that.

    Raises:
        ServeError: it does not start.
    """
    spec, command = entrant.spec, f"make serve CONFIG={entrant.config}"
    begun = time.monotonic()
    with served(entrant.served) as server_pid:
        triton = partial(_triton, entrant, command, clients=clients, server_pid=server_pid)
        ensemble = _started(triton(ENSEMBLE, spec.name), begun, entrant)
        http = f"http://{spec.ports.host}:{spec.ports.http}"
        ask = asker("http", spec.ports.host, spec.ports.http, spec.name, clients)
        over_http = replace(ensemble, way=HTTP, ask=ask, load=("triton-http", http, spec.name))
        direct = replace(triton(DIRECT, stage_names(spec.name)[1]), start_s=ensemble.start_s)
        if not spec.gateway.enabled:
            yield ensemble, over_http, direct
            return
        door = with_words("gateway", str(entrant.served.resolve()))
        where = (spec.gateway.host, spec.ports.gateway, spec.name)
        gateway = _openai(GATEWAY, command, where, lambda: [psutil.Process(server_pid), *door()], clients=clients)
        yield ensemble, over_http, direct, replace(gateway, start_s=ensemble.start_s)


@contextmanager
def beside(entrant: Entrant, clients: int, log: Path) -> Iterator[tuple[Door, ...]]:
    """Both at once, to be asked in turns: what the machine does to one it does to the other.

    Raises:
        Absent: as :func:`alone`.
        ServeError: one does not start, maybe for want of memory: each takes the config's share.
    """
    with alone(entrant, clients, log) as first, ours(entrant, clients) as second:
        yield first + second


@contextmanager
def _raw(entrant: Entrant) -> Iterator[tuple[Door, ...]]:
    assert entrant.engine is not None

    def chat(question: str, schema: dict[str, Any]) -> str:
        raise Absent("the bare pipeline takes token ids and no schema")

    begun = time.monotonic()
    command = f"python -m python_backend.openvino.raw {entrant.config} engines/{entrant.name}/current"
    with closing(RawEngine(entrant.served, entrant.engine)) as raw:
        door = Door(ALONE, command, raw.ask, chat, None, lambda: [psutil.Process(raw.pid)])
        yield (_started(door, begun, entrant),)


def _triton(entrant: Entrant, command: str, way: str, model: str, *, clients: int, server_pid: int) -> Door:
    """One of the server's models, over gRPC."""
    ports = entrant.spec.ports
    address = f"{ports.host}:{ports.grpc}"
    ask = asker("grpc", ports.host, ports.grpc, model, clients)
    chat, load = _grpc_chat(address, model), ("triton-grpc", address, model)
    return Door(way, command, ask, chat, load, lambda: [psutil.Process(server_pid)])


def _started(door: Door, begun: float, entrant: Entrant) -> Door:
    """The start is over with the first token."""
    whole(door.ask([{"prompt": [entrant.tokens[0]], "max_tokens": 1}], 1))
    return replace(door, start_s=round(time.monotonic() - begun, 2))


def _openai(
    way: str,
    command: str,
    where: tuple[str, int, str],
    roots: Callable[[], list[psutil.Process]],
    *,
    clients: int,
    lean_way: str = "openai",
) -> Door:
    """A server that speaks OpenAI's API, at a host and a port, with a model."""
    host, port, model = where
    url = f"http://{host}:{port}"
    ask = asker(lean_way, host, port, model, clients)
    return Door(way, command, ask, _openai_chat(url, model), ("openai-text", url, model), roots)


def _openai_chat(url: str, model: str) -> Callable[[str, dict[str, Any]], str]:
    stream = OpenAI(Target(url, model, _CHAT_S), chat=True)

    def chat(question: str, schema: dict[str, Any]) -> str:
        ask = Ask(({"role": "user", "content": question},), _chat_tokens(schema), schema=schema)
        try:
            return stream(ask, Row(number=0, intended=0.0), clock_from(time.time()))
        except StreamFault as fault:
            raise ServeError(f"{fault.outcome}: {fault.detail}") from None

    return chat


def _grpc_chat(address: str, model: str) -> Callable[[str, dict[str, Any]], str]:
    def chat(question: str, schema: dict[str, Any]) -> str:
        with Client(address, model) as client:
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
