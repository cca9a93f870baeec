"""Triton 2.51 never lets go of a request whose client cancels right after its refusal; our clients read to the end."""

import asyncio
from pathlib import Path

import pytest

from clients.grpc import AsyncClient, Client
from contract.errors import InvalidRequest
from tests.e2e.servers import synthetic


def test_a_refused_server_exits_by_itself(tmp_path: Path) -> None:
    """Requests that Triton still held would make it wait until the supervisor kills it."""
    with synthetic(tmp_path) as server:
        address = f"127.0.0.1:{server.spec.ports.grpc}"
        with Client(address) as client:
            for _ in range(200):
                with pytest.raises(InvalidRequest, match="is empty"):
                    client.generate("")

        async def refused() -> None:
            async with AsyncClient(address) as client:
                for _ in range(200):
                    with pytest.raises(InvalidRequest, match="is empty"):
                        await client.generate("")

        asyncio.run(refused())
        log = server.log
    said = log.read_text()
    assert "stopped" in said
    assert "killing the server" not in said
