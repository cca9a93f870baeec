"""``python -m loadtests.gateway_peers.upstream``: both instant upstreams as one process, which prints their two ports.

Which of them a gateway asks is its own affair; what they cost it is the same, next to nothing.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvloop

from contract.checkout import ROOT
from contract.errors import ServeError
from loadtests.gateway_peers.http1 import OpenAi
from loadtests.gateway_peers.http2 import Triton
from loadtests.own_server import end


@dataclass(frozen=True)
class Upstream:
    """Where it answers."""

    pid: int
    http: int
    grpc: int


@contextmanager
def upstream() -> Iterator[Upstream]:
    """It runs for so long.

    Raises:
        ServeError: it did not start.
    """
    command = [sys.executable, "-m", "loadtests.gateway_peers.upstream"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True) as process:
        try:
            assert process.stdout
            ports = process.stdout.readline().split()
            if len(ports) != 2:
                raise ServeError("the instant upstream did not start")
            yield Upstream(process.pid, *map(int, ports))
        finally:
            end(process)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    doors = [await loop.create_server(kind, "127.0.0.1", 0, backlog=1024) for kind in (OpenAi, Triton)]
    print(*(door.sockets[0].getsockname()[1] for door in doors), flush=True)
    await asyncio.gather(*(door.serve_forever() for door in doors))


if __name__ == "__main__":
    uvloop.run(_serve())
