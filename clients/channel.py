"""A server's address, and the connection to it: made when it is needed, and made again when it has gone."""

import asyncio

from clients.call import Call
from clients.connection import Connection
from clients.wire import Unreachable
from contract.errors import Cancelled, DeadlineExceeded

_CONNECTS_S = 20.0


class Channel:
    """Calls of a server that may come and go; use it in one event loop.

    Args:
        address: as HOST:PORT, or [IPV6]:PORT.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None

    async def call(self, path: bytes, message: bytes, timeout_s: float | None = None) -> Call:
        """Begin a call, as :meth:`clients.connection.Connection.call`.

        Raises:
            Unreachable: no server answers there.
            DeadlineExceeded: none did in time.
        """
        connection = self._connection
        if connection is None or not connection.takes:
            connection = await self._connected(timeout_s)
        return connection.call(path, message, timeout_s)

    def close(self) -> None:
        """Close the connection; calls in flight are cancelled."""
        if self._connecting:
            self._connecting.cancel()
        if self._connection:
            self._connection.close()

    async def _connected(self, timeout_s: float | None) -> Connection:
        """The connection, once it stands; who asks meanwhile waits for the same one."""
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(lambda task: task.cancelled() or task.exception())  # to whoever is left
        connecting = self._connecting
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(connecting)
        except TimeoutError:
            raise DeadlineExceeded("Deadline Exceeded") from None
        except asyncio.CancelledError:
            if connecting.cancelled():
                raise Cancelled("the client was closed") from None
            raise

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(_CONNECTS_S):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(self._address), self._host, self._port
                )
        except (OSError, TimeoutError) as error:
            raise Unreachable(f"no server at {self._address}: {error}") from None
        self._connection = connection
        return connection
