"""Two servers of one deployment as one client: the second answers what the first cannot, or goes on where it went."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from clients.request import Delta, Inputs, Tokens
from clients.wire import OUTPUTS
from contract.errors import EngineFailed, InternalError, Unavailable
from gateway.prefix import Affinity
from gateway.replicas import Client, Replicas
from gateway.resume import resumed, seconds_left

T = TypeVar("T")

_ITS_OWN_FAULT = (EngineFailed, InternalError)
_OF_THE_SERVER = (*_ITS_OWN_FAULT, Unavailable)  # what another one may do better


@dataclass
class InTurn:
    """The first, and for what it fails on the second.

    Args:
        alike: their token ids mean the same, so that the second can go on in the middle of an answer.
    """

    first: Client
    second: Client
    alike: bool = True
    in_flight: int = 0

    async def deltas(
        self,
        inputs: Inputs,
        *,
        timeout_s: float | None = None,
        request_id: str = "",
        outputs: Iterable[str] = OUTPUTS,
        affinity: Affinity | None = None,
    ) -> AsyncGenerator[Delta, None]:
        """As :class:`gateway.replicas.Client`; where the second had to help, the last delta says so.

        Raises:
            RequestError: what the second raises, or as :func:`gateway.resume.resumed`.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        left = [self.second, self.first]
        begun = False

        def begin(rest: Inputs, wanted: Iterable[str]) -> AsyncGenerator[Delta, None]:
            if not left or (begun and not self.alike):
                raise Unavailable("no version of this deployment could take this request", fix="Try again later")
            client = left.pop()
            left_s = seconds_left(deadline)
            ask = partial(client.deltas, affinity=affinity) if isinstance(client, Replicas) else client.deltas
            deltas = ask(rest, timeout_s=left_s, request_id=request_id, outputs=wanted)
            return _faults_as_absence(deltas) if left else deltas

        self.in_flight += 1
        try:
            async with aclosing(resumed(begin, inputs, outputs)) as deltas:
                async for delta in deltas:
                    begun = True
                    yield replace(delta, by_another=True) if delta.finish_reason and not left else delta
        finally:
            self.in_flight -= 1

    async def count(self, inputs: Inputs, *, timeout_s: float | None = None) -> int:
        """Likewise."""
        return await self._either(lambda client: client.count(inputs, timeout_s=timeout_s))

    async def tokenize(
        self, inputs: Inputs, *, add_special_tokens: bool = True, timeout_s: float | None = None
    ) -> Tokens:
        """Likewise."""
        return await self._either(
            lambda client: client.tokenize(inputs, add_special_tokens=add_special_tokens, timeout_s=timeout_s)
        )

    async def _either(self, ask: Callable[[Client], Awaitable[T]]) -> T:
        try:
            return await ask(self.first)
        except _OF_THE_SERVER:
            return await ask(self.second)

    async def close(self) -> None:
        """Close both."""
        await self.first.close()
        await self.second.close()


async def _faults_as_absence(deltas: AsyncGenerator[Delta, None]) -> AsyncGenerator[Delta, None]:
    """A server's deltas; one that fails on a request is as good as none."""
    try:
        async with aclosing(deltas):
            async for delta in deltas:
                yield delta
    except _ITS_OWN_FAULT as fault:
        raise Unavailable(str(fault)) from None
