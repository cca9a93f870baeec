"""How each gateway is started before the instant upstream, as its own documentation has it for production.

Each is one process unless its name says otherwise, listens on loopback, retries nothing and keeps nothing. The key that
its clients send is made for the run and comes to it through its environment: Conch and litellm compare it, Portkey's
passes it on.
"""

import http.client
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import yaml

from contract import programs
from contract.address import free_ports
from contract.checkout import ROOT
from contract.errors import ServeError
from loadtests.family import cpu_s
from loadtests.gateway_peers.answers import MODEL, asked
from loadtests.gateway_peers.http1 import PATH
from loadtests.gateway_peers.upstream import Upstream
from loadtests.own_server import end

LITELLM = ROOT / ".venv-litellm" / "bin" / "litellm"
PORTKEY = ROOT / ".venv-portkey" / "node_modules" / "@portkey-ai" / "gateway"
WORK = ROOT / ".conch" / "gateway-peers"
_START_S = 180
_REST_CORES = 0.1  # a gateway that takes no more has started
_MANY = 512  # requests that no gateway of ours is to refuse
# It listens on every address and has no option for another.
_ON_LOOPBACK = """
import net from "node:net";
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, host, ...rest) { return listen.call(this, port, host ?? "127.0.0.1", ...rest); };
"""  # noqa: E501


@dataclass(frozen=True)
class Door:
    """A gateway that answers."""

    port: int
    headers: Mapping[str, str]
    pid: int | None = None  # None: no gateway, the upstream itself

    def processes(self) -> list[psutil.Process]:
        """Of the gateway, as they are now."""
        if self.pid is None:
            return []
        process = psutil.Process(self.pid)
        return [process, *process.children(recursive=True)]


@dataclass(frozen=True)
class _Command:
    """What starts a gateway."""

    words: Sequence[str | Path]
    environment: dict[str, str]
    headers: dict[str, str]


Make = Callable[[Upstream, int, str], _Command]  # the upstream, the port to listen on, the key


def _conch(upstream: Upstream, port: int, key: str) -> _Command:
    others = free_ports(2)
    config = _written(
        "conch.yaml",
        {
            "name": MODEL,
            "engine": {"runtime": "synthetic"},
            "limits": {"max_batch_size": _MANY},
            "ports": {"gateway": port, "grpc": upstream.grpc, "http": others[0], "metrics": others[1]},
        },
    )
    return _Command([sys.executable, *programs.GATEWAY, config], {"CONCH_API_KEYS": key}, {})


def _litellm(workers: int, upstream: Upstream, port: int, key: str) -> _Command:
    """docs.litellm.ai/docs/proxy/prod and /docs/benchmarks, without the database that neither needs for this."""
    _installed(LITELLM, "litellm's proxy")
    config = _written(
        f"litellm-{workers}.yaml",
        {
            "model_list": [
                {
                    "model_name": MODEL,
                    "litellm_params": {
                        "model": f"openai/{MODEL}",
                        "api_base": f"http://127.0.0.1:{upstream.http}/v1",
                        "api_key": "os.environ/INSTANT_API_KEY",
                    },
                }
            ],
            "litellm_settings": {"callbacks": [], "num_retries": 0, "request_timeout": 600},
            "router_settings": {"num_retries": 0},
            "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
        },
    )
    environment = {
        "LITELLM_MASTER_KEY": key,
        "INSTANT_API_KEY": key,
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    told = ["--host", "127.0.0.1", "--port", str(port), "--num_workers", str(workers)]
    told += ["--timeout_worker_healthcheck", str(_START_S)]  # of 5 s, a busy machine ends workers that still start
    return _Command([LITELLM, "--config", config, *told], environment, {})


def _portkey(upstream: Upstream, port: int, _: str) -> _Command:
    """Its README's headers; without its console, whose page would show every request."""
    program = PORTKEY / "build" / "start-server.js"
    _installed(program, "Portkey's gateway")
    loopback = f"data:text/javascript,{quote(_ON_LOOPBACK)}"
    headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"http://127.0.0.1:{upstream.http}/v1"}
    told = [f"--port={port}", "--headless"]
    return _Command(["node", "--import", loopback, program, *told], {"NODE_ENV": "production"}, headers)


_MAKE: dict[str, Make] = {
    "conch": _conch,
    "litellm": partial(_litellm, 1),
    "litellm-2": partial(_litellm, 2),
    "portkey": _portkey,
}
UPSTREAM = "upstream"  # asked without a gateway
NAMES = (UPSTREAM, *_MAKE)


@contextmanager
def gateway(name: str, upstream: Upstream) -> Iterator[Door]:
    """A gateway for the length of a measurement; it has answered by then, and every process of it has started.

    Raises:
        ServeError: it is not installed, or does not start; the end of its log is in the message.
    """
    if name == UPSTREAM:
        yield Door(upstream.http, {})
        return
    WORK.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    key = f"sk-{secrets.token_hex(32)}"
    command = _MAKE[name](upstream, port, key)
    headers = {"Authorization": f"Bearer {key}", **command.headers}
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", **command.environment}
    log = WORK / f"{name}.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            list(map(str, command.words)), stdout=out, stderr=out, env=environment, cwd=ROOT, start_new_session=True
        )
    try:
        until = time.monotonic() + _START_S
        while said := _unready(port, headers):
            if process.poll() is not None or time.monotonic() > until:
                raise ServeError(f"{name} did not start: {said}: {log.read_text()[-3000:]}")
            time.sleep(0.2)
        door = Door(port, headers, process.pid)
        while _cores(door) > _REST_CORES and time.monotonic() < until:
            pass
        yield door
    finally:
        end(process)


def versions() -> dict[str, str]:
    """Of the others, as far as they are installed."""
    found = {}
    for path in ROOT.glob(".venv-litellm/lib/*/site-packages/litellm-*.dist-info"):
        if path.name.count("-") == 2:
            found["litellm"] = path.name.split("-")[1].removesuffix(".dist")
    if (about := PORTKEY / "package.json").exists():
        found["portkey"] = json.loads(about.read_text())["version"]
        found["node"] = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return found


def _cores(door: Door) -> float:
    """What a gateway takes that is asked nothing."""
    before = cpu_s(door.processes())
    time.sleep(1.0)
    return cpu_s(door.processes()) - before


def _unready(port: int, headers: Mapping[str, str]) -> str:
    """Why it does not answer; '' when it does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        body = json.dumps(asked(stream=False))
        connection.request("POST", PATH, body, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        said = answer.read().decode(errors="replace")
        return "" if answer.status == 200 else f"HTTP {answer.status} {said[:500]}"
    except OSError as error:
        return str(error)
    finally:
        connection.close()


def _installed(program: Path, what: str) -> None:
    if not program.exists():
        raise ServeError(
            f"{what} is not installed", fix="make bench-gateway PEERS=1 installs it in a folder of its own"
        )


def _written(name: str, config: dict[str, Any]) -> Path:
    path = WORK / name
    path.write_text(yaml.safe_dump(config))
    return path
