"""``python -m serving.filter``: the process, until SIGTERM; what is under way gets a moment to be taken."""

import argparse
import asyncio
import os
import resource
import signal
import sys
import time
from pathlib import Path

import uvloop

from contract.stage import ABORTS
from serving.filter.calls import GrpcRelay
from serving.filter.models import streaming_models
from serving.filter.relay import Relay
from serving.filter.requests import HttpRelay
from serving.triton import GRPC_DOOR, HTTP_DOOR

_LOOK_S = 5.0  # between two looks at whose time is over
_FLUSH_S = 2.0  # at the end, for clients to take what they were sent


async def serve(host: str, http: int, grpc: int, doors: Path, repository: Path) -> None:
    """Listen until told to stop.

    Raises:
        OSError: a port is taken.
    """
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # The kernel takes 107 bytes of a socket's path, so go through its folder.
    streaming = streaming_models(repository)
    run, folder = (f"/proc/self/fd/{os.open(each, os.O_PATH | os.O_DIRECTORY)}" for each in (doors.parent, doors))
    listeners = [
        await loop.create_server(lambda: HttpRelay(f"{folder}/{HTTP_DOOR}"), host, http, backlog=1024),
        await loop.create_server(
            lambda: GrpcRelay(f"{folder}/{GRPC_DOOR}", f"{run}/{ABORTS}", streaming), host, grpc, backlog=1024
        ),
    ]
    while not stop.is_set():
        try:
            await asyncio.wait_for(stop.wait(), _LOOK_S)
        except TimeoutError:
            now = time.monotonic()
            for relay in [each for each in Relay.all if each.overdue(now)]:
                relay.transport.abort()
    for listener in listeners:
        listener.close()
    for _ in range(int(_FLUSH_S / 0.05)):
        if not any(relay.server or relay.transport.get_write_buffer_size() for relay in Relay.all):
            break
        await asyncio.sleep(0.05)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m serving.filter", description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--http", type=int, required=True)
    parser.add_argument("--grpc", type=int, required=True)
    parser.add_argument("--doors", type=Path, required=True, help="The folder of Triton's own sockets.")
    parser.add_argument("--repository", type=Path, required=True, help="The folder of its models.")
    given = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        uvloop.run(serve(given.host.strip("[]"), given.http, given.grpc, given.doors, given.repository))
    except OSError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
