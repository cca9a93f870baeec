"""Our own gRPC against gRPC's own server: messages of any size, many calls, and every way in which one ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from clients.channel import Channel
from clients.wire import Unreachable
from contract.address import free_ports
from contract.errors import Cancelled, DeadlineExceeded, InternalError

REPEAT, FAIL, HANG = b"/test.Test/Repeat", b"/test.Test/Fail", b"/test.Test/Hang"
LARGE = 5 * 2**20  # several windows


class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Repeat: COUNT and a message, sent so many times; Fail; Hang: one message, and then nothing."""

    def __init__(self) -> None:
        self.sent = 0
        self.left = 0

    def service(self, details: Any) -> Any:
        found = {REPEAT.decode(): self.repeat, FAIL.decode(): self.fail, HANG.decode(): self.hang}.get(details.method)
        return grpc.unary_stream_rpc_method_handler(found) if found else None

    async def repeat(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self.sent = 0
        for _ in range(request[0]):
            yield request[1:]
            self.sent += 1

    async def fail(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield request
        await context.abort(grpc.StatusCode[request.decode()], "été 100 % – no")

    async def hang(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            yield request
            await asyncio.sleep(60)
        finally:
            self.left += 1


@asynccontextmanager
async def serving(port: int = 0) -> AsyncIterator[tuple[Any, Handler, int]]:
    server, handler = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)]), Handler()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield server, handler, port
    finally:
        await server.stop(0)


def run(test: Callable[[Channel, Handler], Awaitable[None]]) -> None:
    async def walk() -> None:
        async with serving() as (_, handler, port):
            channel = Channel(f"127.0.0.1:{port}")
            await asyncio.wait_for(test(channel, handler), 60)
            channel.close()

    asyncio.run(walk())


async def messages(channel: Channel, path: bytes, message: bytes, timeout_s: float | None = None) -> list[bytes]:
    call = await channel.call(path, message, timeout_s)
    found = []
    while (each := await call.read()) is not None:
        found.append(each)
    return found


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("size", [0, 1, 2**14 - 5, 2**14, 2**16, LARGE])
def test_messages_of_any_size(size: int) -> None:
    async def test(channel: Channel, _: Handler) -> None:
        message = bytes(range(256)) * (size // 256 + 1)
        assert await messages(channel, REPEAT, b"\3" + message[:size]) == [message[:size]] * 3

    run(test)


def test_many_calls_share_a_connection() -> None:
    async def test(channel: Channel, _: Handler) -> None:
        sent = [b"%d" % number * (1 + number * 100) for number in range(100)]
        found = await asyncio.gather(*(messages(channel, REPEAT, b"\5" + each) for each in sent))
        assert found == [[each] * 5 for each in sent]

    run(test)


def test_who_does_not_read_holds_the_server_back() -> None:
    async def test(channel: Channel, handler: Handler) -> None:
        call = await channel.call(REPEAT, b"\xff" + bytes(2**14))
        await until(lambda: handler.sent > 2)
        await asyncio.sleep(0.3)
        held = handler.sent
        assert held < 100
        assert [await call.read() for _ in range(255)] == [bytes(2**14)] * 255
        assert await call.read() is None

    run(test)


@pytest.mark.parametrize(
    ("code", "kind"),
    [("UNAVAILABLE", Unreachable), ("DEADLINE_EXCEEDED", DeadlineExceeded), ("RESOURCE_EXHAUSTED", InternalError)],
)
def test_a_status_is_told(code: str, kind: type[Exception]) -> None:
    async def test(channel: Channel, _: Handler) -> None:
        call = await channel.call(FAIL, code.encode())
        assert await call.read() == code.encode()
        with pytest.raises(kind, match="été 100 % – no"):
            await call.read()

    run(test)


def test_an_unknown_method_is_refused() -> None:
    async def test(channel: Channel, _: Handler) -> None:
        with pytest.raises(InternalError, match="Method not found"):
            await messages(channel, b"/test.Test/Nothing", b"x" * LARGE)

    run(test)


def test_who_leaves_is_seen_to_leave() -> None:
    async def test(channel: Channel, handler: Handler) -> None:
        call = await channel.call(HANG, b"x")
        await call.read()
        call.cancel()
        await until(lambda: handler.left == 1)
        with pytest.raises(Cancelled):
            await call.read()
        reading = asyncio.create_task(messages(channel, HANG, b"x", timeout_s=0.1))
        with pytest.raises(DeadlineExceeded):
            await reading
        await until(lambda: handler.left == 2)
        assert await messages(channel, REPEAT, b"\1y") == [b"y"]

    run(test)


def test_a_closed_channel_cancels_its_calls() -> None:
    async def test(channel: Channel, handler: Handler) -> None:
        call = await channel.call(HANG, b"x")
        await call.read()
        channel.close()
        with pytest.raises(Cancelled):
            await call.read()
        await until(lambda: handler.left == 1)

    run(test)


def test_a_server_that_goes_ends_what_it_began_and_is_found_again() -> None:
    async def walk() -> None:
        async with serving() as (server, _, port):
            channel = Channel(f"127.0.0.1:{port}")
            hanging = await channel.call(HANG, b"x")
            assert await hanging.read() == b"x"
            going = asyncio.create_task(server.stop(0.5))
            await asyncio.sleep(0.1)
            with pytest.raises(Unreachable):  # it takes nothing new while it goes
                await messages(channel, REPEAT, b"\1x")
            with pytest.raises(Unreachable):
                await hanging.read()
            await going
        with pytest.raises(Unreachable, match=f"no server at 127.0.0.1:{port}"):
            await messages(channel, REPEAT, b"\1x")
        async with serving(port):
            assert await messages(channel, REPEAT, b"\1x") == [b"x"]
            channel.close()

    asyncio.run(asyncio.wait_for(walk(), 30))


def test_a_server_that_says_nothing_costs_its_deadline() -> None:
    async def walk() -> None:
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        async with server:
            channel = Channel(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
            with pytest.raises(DeadlineExceeded):
                await messages(channel, REPEAT, b"\1x", timeout_s=0.2)
            channel.close()
        with pytest.raises(Unreachable):
            await messages(Channel(f"127.0.0.1:{free_ports(1)[0]}"), REPEAT, b"\1x")

    asyncio.run(asyncio.wait_for(walk(), 30))


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\4\3\0\0\0\0\1", b"\xff" * 64])
def test_what_is_no_grpc_breaks_the_connection_alone(said: bytes) -> None:
    async def walk() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.write(said)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            channel = Channel(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
            for _ in range(2):
                with pytest.raises(Unreachable):
                    await messages(channel, REPEAT, b"\1x")

    asyncio.run(asyncio.wait_for(walk(), 30))


def test_a_connection_that_broke_before_its_first_call_says_so() -> None:
    async def ask() -> None:
        async def shut(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()

        async with await asyncio.start_server(shut, "127.0.0.1", 0) as server:
            address = "{}:{}".format(*server.sockets[0].getsockname())
            connection = await Channel(address)._connect()
            while connection.takes:  # noqa: ASYNC110
                await asyncio.sleep(0)
            with pytest.raises(Unreachable, match="the connection broke"):
                connection.call(REPEAT, b"", None)

    asyncio.run(ask())
