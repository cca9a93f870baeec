"""A POST whose response is read line by line, each with its moment of arrival.

Locust's own streaming call reads blocks of 1,024 bytes and so hands lines out late and in bunches; here a line is
handed out with the packet that completes it.
"""

import socket
import ssl
import time
from collections.abc import Generator

import httptools

from loadtests.load.fault import StreamFault, outcome_of_status
from loadtests.load.rows import Outcome, Row
from loadtests.load.streams.target import Clock, Target
from loadtests.sse import StreamedResponse, request

_BYTES = 65536


def lines(target: Target, path: str, body: bytes, row: Row, clock: Clock) -> Generator[tuple[float, bytes], None, None]:
    """The lines of the body of a 200; closing the generator hangs up.

    Raises:
        StreamFault: no connection, another status, silence, or an end before the end.
    """
    until = time.monotonic() + target.timeout_s
    host, port = target.address
    try:
        connection = _connected(target, host, port)
    except TimeoutError:
        raise StreamFault(Outcome.TIMEOUT, f"no connection within {target.timeout_s:g} s") from None
    except OSError as error:
        raise StreamFault(Outcome.CONNECT, str(error)) from None
    row.connected = clock()
    response = StreamedResponse()
    refusal: list[bytes] = []
    try:
        connection.sendall(request(f"{host}:{port}", target.path + path, body, target.headers))
        while not response.ended:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
            data = connection.recv(_BYTES)
            now = clock()
            row.first_byte = row.first_byte or now
            if not data:
                break
            whole = response.feed(data)
            row.status, row.retry_after_s = response.status, response.retry_after_s
            if response.status == 200:
                for line in whole:
                    yield now, line
            else:
                refusal += whole
    except TimeoutError:
        raise StreamFault(Outcome.TIMEOUT, f"not over within {target.timeout_s:g} s") from None
    except httptools.HttpParserError as error:
        raise StreamFault(Outcome.CONNECT, f"this is not HTTP: {error}") from None
    except OSError as error:
        raise StreamFault(Outcome.TRUNCATED if row.chunks else Outcome.CONNECT, str(error)) from None
    finally:
        connection.close()
    if response.status not in {0, 200}:
        said = b"\n".join([*refusal, response.rest()]).decode(errors="replace")
        raise StreamFault(outcome_of_status(response.status), said)
    if response.cut():
        outcome = Outcome.TRUNCATED if response.status else Outcome.CONNECT
        raise StreamFault(outcome, "the connection closed before the response's end")


def _connected(target: Target, host: str, port: int) -> socket.socket:
    connection = socket.create_connection((host, port), timeout=target.timeout_s)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if target.secure:
            return ssl.create_default_context().wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise
    return connection
