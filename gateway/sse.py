"""A stream of server-sent events: one write a delta, paused with its reader, ended when its reader leaves.

The stream is begun by its first event, so that a request refused before has a status of its own; an error
after that is an event, and no ``[DONE]`` follows it, so that a cut answer never looks whole.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.interrupt import ClientLeft, Drain, peer_of

DONE = b"data: [DONE]\n\n"
READER_PATIENCE_S = 30.0  # a reader that takes nothing for so long is given up: it holds a place in the batch

Events = AsyncGenerator[bytes, None]


class EventStream(Response):
    """The response around events that have begun."""

    media_type = "text/event-stream"

    def __init__(self, first: bytes, rest: Events, drain: Drain, on_error: Callable[[Exception], bytes]) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._first = first
        self._rest = rest
        self._drain = drain
        self._on_error = on_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; raises nothing that a client could cause."""

        peer = peer_of(scope)

        async def write(chunk: bytes, *, more: bool = True) -> None:
            message = {"type": "http.response.body", "body": chunk, "more_body": more}
            if not peer.flow.write_paused:  # this cannot wait then, and a timer costs a tenth of it
                await send(message)
                return
            async with asyncio.timeout(READER_PATIENCE_S):
                await send(message)

        try:
            async with self._drain.interruptible(peer):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                await write(self._first)
                async for chunk in self._rest:
                    if chunk.endswith(DONE):  # nothing follows, so the body's end leaves with it
                        await write(chunk, more=False)
                        return
                    await write(chunk)
        except (ClientLeft, TimeoutError):
            return
        except Exception as error:
            await self._rest.aclose()
            await write(self._on_error(error))
        finally:
            await self._rest.aclose()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def begun(events: Events, request: Request, drain: Drain, on_error: Callable[[Exception], bytes]) -> EventStream:
    """A response whose first event is there; what fails before it is raised."""
    try:
        async with drain.interruptible(peer_of(request.scope)):
            first = await anext(events)
    except BaseException:
        await events.aclose()
        raise
    return EventStream(first, events, drain, on_error)
