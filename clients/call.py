"""One gRPC call as the event loop itself carries it: a message out, messages back, and how it ended."""

import asyncio
from collections import deque
from collections.abc import Callable

from contract.errors import Cancelled, DeadlineExceeded, InternalError, RequestError

_LENGTH = 5  # bytes before each message: whether it is packed, and how long it is
_CREDIT = 2**14  # bytes: so much read, and the server is told that there is room again


class Call:
    """Begun by :meth:`clients.connection.Connection.call`, which gives it what comes.

    Args:
        room: tells the server that it may send so many bytes more.
        leave: ends the call at the server.
    """

    def __init__(self, room: Callable[[int], None], leave: Callable[[], None]) -> None:
        self._room = room
        self._leave = leave
        self._messages: deque[bytes] = deque()
        self._partial = bytearray()
        self._owed = 0  # bytes that came, and were not given room for again
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._over = False
        self._error: RequestError | None = None

    async def read(self) -> bytes | None:
        """The next message, or None once the call has ended well. What is not read holds the server back.

        Raises:
            RequestError: the call failed.
        """
        while not self._messages:
            if self._error:
                raise self._error
            if self._over:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        message = self._messages.popleft()
        self._give_room()
        return message

    def cancel(self) -> None:
        """End it, wherever it stands."""
        if not self._over:
            self._leave()
            self.end(Cancelled("the call was cancelled"))

    def expire_in(self, seconds: float) -> None:
        """End it after so long."""
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire)

    def take(self, data: bytes, size: int) -> None:
        """A piece of its messages came, in a frame of so many bytes.

        Raises:
            InternalError: a message is packed, which nobody asked for.
        """
        self._owed += size
        partial = self._partial
        partial += data
        while len(partial) >= _LENGTH:
            end = _LENGTH + int.from_bytes(partial[1:_LENGTH])
            if partial[0]:
                raise InternalError("the server packs its messages")
            if len(partial) < end:
                break
            self._messages.append(bytes(partial[_LENGTH:end]))
            del partial[:end]
        if self._messages:
            self._wake()
        else:
            self._give_room()

    def end(self, error: RequestError | None) -> None:
        """Nothing more will come; what did can still be read."""
        if self._over:
            return
        self._over, self._error = True, error
        if self._timer:
            self._timer.cancel()
        self._wake()

    def _give_room(self) -> None:
        """Where everything has been read: a message longer than the room there was must come whole all the same."""
        if self._owed >= _CREDIT and not self._messages and not self._over:
            self._room(self._owed)
            self._owed = 0

    def _expire(self) -> None:
        self._leave()
        self.end(DeadlineExceeded("Deadline Exceeded"))

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)
