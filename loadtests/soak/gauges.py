"""Every gauge of work in progress, of the server and of the gateway: all are 0 once nobody asks."""

import asyncio
import time
from collections.abc import Mapping

from contract.spec import Deployment
from loadtests.load.get import get
from loadtests.load.scrape import page

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
    values: dict[str, float] = {}
    for url, names in pages.items():
        try:
            said = page(get(url, 10).decode())
        except OSError:
            said = dict.fromkeys(names, -1.0)
        values |= {name: said.get(name, 0.0) for name in names}
    return values
