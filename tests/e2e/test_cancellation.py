"""Whichever way a client leaves, the engine has its slot back within a second, and no stage keeps anything."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from clients.grpc import AsyncClient, Client
from contract.tensors import ENSEMBLE_ALIAS, stage_names
from serving.supervisor import Running
from tests.e2e import leaving
from tests.e2e.servers import metric, synthetic
from tests.serving.stream import until

ENGINE = stage_names("synthetic")[1]
# The promise is 1 s; the gauge is published every 0.25 s, and CI's two cores are shared.
FREED_S = 1.5
BEGIN_S = 30
FORGOTTEN_S = 10
CANCELLED = 2000
AT_ONCE = 50
RECORDED: dict[str, float] = {}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with synthetic(tmp_path_factory.mktemp("cancel"), max_queue_size=CANCELLED) as running:
        yield running
    print("\nslots freed after at most:", {way: f"{spent:.2f} s" for way, spent in RECORDED.items()})


def total(server: Running, name: str) -> float:
    return sum(metric(server, name).values())


def forgotten(server: Running) -> None:
    """Return once no stage holds a request."""
    for _ in until(FORGOTTEN_S, "every stage to forget every request"):
        if not any(total(server, f"conch_{name}") for name in ("requests_active", "requests_waiting", "streams_open")):
            return


def freed_after(server: Running, crowd: leaving.Crowd, count: int, stream: bool, model: str) -> float:
    """Seconds from the last client's leaving until the engine's active count is 0."""
    with ExitStack() as exits:
        leave = crowd(server, count, stream, exits, model=model)
        for _ in until(BEGIN_S, f"{count} active requests"):
            if total(server, "conch_requests_active") == count:
                break
        leave()
        left_at = time.monotonic()
        for _ in until(BEGIN_S, "the engine to be free"):
            if total(server, "conch_requests_active") == 0:
                return time.monotonic() - left_at
    raise AssertionError


@pytest.mark.parametrize(("count", "model"), [(1, ENSEMBLE_ALIAS), (32, ENSEMBLE_ALIAS), (32, ENGINE)])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    "crowd",
    [leaving.grpc_cancel, leaving.grpc_gone, leaving.grpc_timeout, leaving.timeout_ms, leaving.stop_string],
    ids=lambda crowd: crowd.__name__,
)
def test_grpc(server: Running, crowd: leaving.Crowd, stream: bool, count: int, model: str) -> None:
    spent = freed_after(server, crowd, count, stream, model)
    RECORDED[crowd.__name__] = max(RECORDED.get(crowd.__name__, 0), spent)
    assert spent < FREED_S
    forgotten(server)


@pytest.mark.parametrize(("count", "model"), [(1, ENSEMBLE_ALIAS), (32, ENSEMBLE_ALIAS), (32, ENGINE)])
def test_http(server: Running, count: int, model: str) -> None:
    spent = freed_after(server, leaving.http_gone, count, True, model)
    RECORDED["http_gone"] = max(RECORDED.get("http_gone", 0), spent)
    assert spent < FREED_S
    forgotten(server)


def test_http_generate_is_noticed_when_its_answer_is_written(server: Running) -> None:
    """Triton looks at an HTTP connection only when it writes (server issue 7077): one write, at the end."""
    with ExitStack() as exits:
        leave = leaving.http_gone(server, 1, False, exits, model=ENSEMBLE_ALIAS, tokens=300)
        for _ in until(BEGIN_S, "an active request"):
            if total(server, "conch_requests_active") == 1:
                break
        leave()
    forgotten(server)


@pytest.mark.parametrize("direct", [False, True], ids=["ensemble", "direct"])
def test_two_thousand_cancelled_requests_leave_nothing(server: Running, direct: bool) -> None:
    """Cancelled at every stage of their life: before the first token, at it, in the middle, as they end."""

    async def main() -> None:
        address = f"127.0.0.1:{server.spec.ports.grpc}"
        async with AsyncClient(address, server.spec.name, direct=direct) as client:
            waves = CANCELLED // AT_ONCE
            for wave in range(waves):
                async with asyncio.timeout(leaving.HANG_S):
                    await asyncio.gather(
                        *(_leave_after(client, 0.5 * wave / waves, n % 2 == 0) for n in range(AT_ONCE))
                    )

    asyncio.run(main())
    forgotten(server)
    with Client(f"127.0.0.1:{server.spec.ports.grpc}") as client:
        assert client.generate("tide", max_tokens=6).text == "tideti"


async def _leave_after(client: AsyncClient, seconds: float, stream: bool) -> None:
    async def ask() -> None:
        if stream:
            async for _ in client.stream(leaving.PROMPT, max_tokens=40):
                pass
        else:
            await client.generate(leaving.PROMPT, max_tokens=40)

    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await ask()
