"""Every gauge of work in progress, of the server and of the gateway: all are 0 once nobody asks."""

import asyncio
import time
from collections.abc import Mapping

from contract.spec import Deployment
from loadtests.load.get import get

_SETTLE_S = 20.0
_LOOK_S = 0.2
_SERVER = ("conch_requests_active", "conch_requests_waiting", "conch_streams_open")
_GATEWAY = ("conch_gateway_requests_active", "conch_gateway_requests_waiting", "conch_gateway_tokens_active")


async def settled(spec: Deployment) -> dict[str, float]:
    """Those that are not 0, once all are or the patience is over; one that cannot be read is not 0."""
    pages = {
        f"http://{spec.ports.host}:{spec.ports.metrics}/metrics": _SERVER,
        f"http://{spec.gateway.host}:{spec.ports.gateway}/metrics": _GATEWAY,
    }
    deadline = time.monotonic() + _SETTLE_S
    while True:
        values = await asyncio.to_thread(_read, pages)
        left = {name: value for name, value in values.items() if value}
        if not left or time.monotonic() > deadline:
            return left
        await asyncio.sleep(_LOOK_S)


def _read(pages: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    values = {}
    for page, names in pages.items():
        for name in names:
            try:
                lines = get(page, 10).decode().splitlines()
                values[name] = sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{"))
            except OSError:
                values[name] = -1.0
    return values
