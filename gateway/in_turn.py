"""Two servers of one deployment as one client: the second answers what the first cannot."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace

from clients.request import Delta, Inputs, Tokens
from clients.wire import OUTPUTS
from contract.errors import EngineFailed, InternalError, Unavailable
from gateway.replicas import Client

_OF_THE_SERVER = (Unavailable, EngineFailed, InternalError)  # what another one may do better


@dataclass
class InTurn:
    """The first, and for what it fails on the second."""

    first: Client
    second: Client
    in_flight: int = 0

    async def deltas(
        self, inputs: Inputs, *, timeout_s: float | None = None, request_id: str = "", outputs: Iterable[str] = OUTPUTS
    ) -> AsyncGenerator[Delta, None]:
        """As :class:`gateway.replicas.Client`; where the second had to help, the last delta says so."""
        self.in_flight += 1
        begun = False
        try:
            async with aclosing(
                self.first.deltas(inputs, timeout_s=timeout_s, request_id=request_id, outputs=outputs)
            ) as deltas:
                async for delta in deltas:
                    begun = True
                    yield delta
            return
        except _OF_THE_SERVER:
            if begun:
                raise
            async with aclosing(
                self.second.deltas(inputs, timeout_s=timeout_s, request_id=request_id, outputs=outputs)
            ) as deltas:
                async for delta in deltas:
                    yield replace(delta, by_another=True) if delta.finish_reason else delta
        finally:
            self.in_flight -= 1

    async def count(self, inputs: Inputs, *, timeout_s: float | None = None) -> int:
        """Likewise."""
        try:
            return await self.first.count(inputs, timeout_s=timeout_s)
        except _OF_THE_SERVER:
            return await self.second.count(inputs, timeout_s=timeout_s)

    async def tokenize(
        self, inputs: Inputs, *, add_special_tokens: bool = True, timeout_s: float | None = None
    ) -> Tokens:
        """Likewise."""
        try:
            return await self.first.tokenize(inputs, add_special_tokens=add_special_tokens, timeout_s=timeout_s)
        except _OF_THE_SERVER:
            return await self.second.tokenize(inputs, add_special_tokens=add_special_tokens, timeout_s=timeout_s)

    async def close(self) -> None:
        """Close both."""
        await self.first.close()
        await self.second.close()
