"""Is a deployment ready? One one-token request through the ensemble, asked at most once a second."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from contract.errors import Overloaded, RequestError
from contract.stage import canary_id
from gateway.backend import Backend
from gateway.errors import public

LIVE = ("/health/live", "/health", "/v1/health", "/ping")  # as load balancers and bench tools know it
RELEASE = "0.1.0"  # as pyproject.toml has it, which no container sees
_FRESH_S = 1.0
_PATIENCE_S = 10.0
_PROBE = {"input_ids": [1], "max_tokens": 1, "stream": False}


@dataclass
class Health:
    """What was last heard of one deployment; '' is ready."""

    backends: Mapping[str, Backend]
    name: str
    _verdict: str = "was not asked yet"
    _asked_at: float = float("-inf")
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def verdict(self) -> str:
        """'' when it answers, else why not. Many askers cost one request."""
        async with self._lock:
            if time.monotonic() - self._asked_at >= _FRESH_S:
                self._verdict = await self._ask()
                self._asked_at = time.monotonic()
            return self._verdict

    async def _ask(self) -> str:
        """Under the canary's id, where this process may read it: then it is no request in the server's metrics."""
        backend = self.backends[self.name]
        deltas = backend.client.deltas(
            _PROBE, timeout_s=_PATIENCE_S, request_id=canary_id(backend.run_dir), outputs=("finish_reason",)
        )
        try:
            async for delta in deltas:
                if delta.finish_reason:
                    return ""
            return "the stream ended without an answer"
        except Overloaded:
            return ""  # it is full, and says so
        except RequestError as error:
            return public(error, error.field)
