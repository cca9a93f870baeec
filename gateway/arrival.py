"""Bodies on their way: all of them together hold no more than a budget, and the largest of them gives way.

A client that sends slowly, over many connections, thus costs itself its requests, and nobody else theirs.
"""

import asyncio
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect, Request

from gateway.errors import ApiError, Refused, refuse
from gateway.interrupt import ClientLeft

_ARRIVAL_S = 30.0  # a body that takes longer to arrive is given up
_CROWDED = ApiError(
    503,
    "too many bodies are arriving at once, and this one was the largest. Try again",
    "server_error",
    "service_unavailable",
    retry_after_s=1,
)


@dataclass(eq=False)
class _Arrival:
    """A body on its way."""

    timeout: asyncio.Timeout
    body: bytearray = field(default_factory=bytearray)
    gives_way: bool = False


@dataclass
class Arrivals:
    """Every body on its way.

    Args:
        most_bytes: what they may hold together.
    """

    most_bytes: int
    held: int = 0
    _under_way: set[_Arrival] = field(default_factory=set)

    async def read(self, request: Request, most_bytes: int) -> bytes:
        """A request's body.

        Raises:
            Refused: it is too large or too slow, or gave way.
            ClientLeft: it was cut short.
        """
        announced = request.headers.get("content-length", "0")
        if announced.isdigit() and int(announced) > most_bytes:
            raise too_large(most_bytes)
        arrival = _Arrival(asyncio.timeout(_ARRIVAL_S))
        self._under_way.add(arrival)
        try:
            async with arrival.timeout:
                async for chunk in request.stream():
                    if arrival.gives_way:
                        continue
                    arrival.body += chunk
                    self.held += len(chunk)
                    if len(arrival.body) > most_bytes:
                        raise too_large(most_bytes)
                    self._make_room()
            if arrival.gives_way:  # and its end came before its reader woke up
                raise Refused(_CROWDED)
            return bytes(arrival.body)
        except TimeoutError:
            if arrival.gives_way:
                raise Refused(_CROWDED) from None
            raise refuse(f"the body did not arrive within {_ARRIVAL_S:g} s", code="body_timeout", status=408) from None
        except ClientDisconnect:
            raise ClientLeft from None
        finally:
            self._drop(arrival)

    def _make_room(self) -> None:
        while self.held > self.most_bytes:
            largest = max(self._under_way, key=lambda arrival: len(arrival.body))
            largest.gives_way = True
            largest.timeout.reschedule(0)  # its reader wakes up in the past
            self._drop(largest)

    def _drop(self, arrival: _Arrival) -> None:
        if arrival in self._under_way:
            self._under_way.remove(arrival)
            self.held -= len(arrival.body)
            arrival.body = bytearray()


def too_large(most_bytes: int) -> Refused:
    """The refusal of a body."""
    return refuse(f"the body is larger than {most_bytes} bytes", code="request_too_large", status=413)
