"""The clients against a real server: sync, asyncio and HTTP say the same; leaving early cancels."""

import asyncio
import ctypes
import gc
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients import http
from clients.grpc import AsyncClient, Client
from clients.request import Delta, inputs_of, joined
from clients.wire import to_delta, to_message
from contract.address import free_ports
from contract.errors import ContextTooLong, DeadlineExceeded, InvalidRequest, Unavailable
from serving.supervisor import Running
from tests.e2e.servers import metric, synthetic


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with synthetic(tmp_path_factory.mktemp("clients")) as running:
        yield running


def http_address(server: Running) -> str:
    return f"127.0.0.1:{server.spec.ports.http}"


def settled(read: Callable[[], float], wanted: float, seconds: float = 10) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if read() == wanted:
            return True
        time.sleep(0.05)
    return False


class Mallinfo(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = [(f"other_{n}", ctypes.c_size_t) for n in range(7)] + [
        (name, ctypes.c_size_t) for name in ("uordblks", "fordblks", "keepcost")
    ]


def allocated() -> int:
    """Bytes that malloc has given out in this process, C's among them."""
    gc.collect()
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = Mallinfo
    return int(ask().uordblks)


def active(server: Running) -> float:
    return sum(metric(server, "conch_requests_active").values())


def test_stream_is_the_answer_in_parts(client: Client) -> None:
    deltas = list(client.stream("été ", max_tokens=12))
    assert len(deltas) > 1
    assert joined(deltas) == client.generate("été ", max_tokens=12)
    assert joined(deltas).text == "été été "[: len(joined(deltas).text)]
    assert joined(deltas).num_output_tokens == 12 == len(joined(deltas).output_ids)
    assert joined(deltas).finish_reason == "length"


def test_http_says_what_grpc_says(server: Running, client: Client) -> None:
    address = http_address(server)
    answer = client.generate("wave ", max_tokens=9)
    assert http.generate("wave ", address=address, max_tokens=9) == answer
    assert joined(http.stream("wave ", address=address, max_tokens=9)) == answer


def test_asyncio_streams_many_at_once(server: Running) -> None:
    async def run() -> list[str]:
        async with AsyncClient(f"127.0.0.1:{server.spec.ports.grpc}") as client:

            async def one(text: str) -> str:
                return "".join([delta.text async for delta in client.stream(text, max_tokens=len(text))])

            return await asyncio.gather(*(one(f"number {n}") for n in range(20)))

    assert asyncio.run(run()) == [f"number {n}" for n in range(20)]


def test_messages_and_stop_strings(client: Client) -> None:
    messages = [{"role": "user", "content": "a b c"}]
    assert client.generate(messages=messages, max_tokens=12).text == "user: a b c\n"
    answer = client.generate("one two three", stop_words=["thr"])
    assert (answer.text, answer.finish_reason) == ("one two ", "stop")


def test_leaving_a_stream_frees_its_slot(server: Running, client: Client) -> None:
    for _ in client.stream("x", max_tokens=4000):
        break
    assert settled(lambda: active(server), 0)


def test_a_cancelled_task_frees_its_slot(server: Running) -> None:
    async def run() -> None:
        async with AsyncClient(f"127.0.0.1:{server.spec.ports.grpc}") as client:
            task = asyncio.create_task(client.generate("x", max_tokens=4000))
            await asyncio.sleep(0.5)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert settled(lambda: active(server), 0)

    asyncio.run(run())


def test_those_who_leave_cost_no_memory(server: Running) -> None:
    async def leave(client: AsyncClient, times: int) -> None:
        for _ in range(times):
            begun = asyncio.Event()

            async def read(begun: asyncio.Event = begun) -> None:
                async for _ in client.stream("x", max_tokens=4000):
                    begun.set()

            task = asyncio.create_task(read())
            await begun.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def run() -> int:
        async with AsyncClient(f"127.0.0.1:{server.spec.ports.grpc}") as client:
            await leave(client, 100)
            before = allocated()
            await leave(client, 400)
            return allocated() - before

    assert asyncio.run(run()) < 400 * 50  # grpc.aio keeps 100 bytes and more of a read that was cancelled


def test_leaving_an_http_stream_frees_its_slot(server: Running) -> None:
    stream = http.stream("x", address=http_address(server), max_tokens=4000)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert settled(lambda: active(server), 0)


def test_refusals_name_the_field(server: Running, client: Client) -> None:
    with pytest.raises(InvalidRequest, match=r"temperature.*\[0, 2\]") as refused:
        client.generate("x", temperature=3.0)
    assert refused.value.field == "temperature"
    with pytest.raises(ContextTooLong, match="max_tokens"):
        http.generate("x", address=http_address(server), max_tokens=100_000)
    with pytest.raises(ContextTooLong):
        list(http.stream("x", address=http_address(server), max_tokens=100_000))
    with pytest.raises(InvalidRequest, match="Did you mean max_tokens"):
        client.generate("x", max_token=3)
    with pytest.raises(InvalidRequest, match="max_tokens"):
        client.generate("x", max_tokens="many")


def test_a_deadline_is_kept(client: Client) -> None:
    with pytest.raises(DeadlineExceeded):
        client.generate("x", max_tokens=4000, timeout_s=0.5)
    with pytest.raises(DeadlineExceeded, match="timeout_ms"):
        client.generate("x", max_tokens=4000, timeout_ms=300)


def test_no_server_is_said_so() -> None:
    port = free_ports(1)[0]
    with Client(f"127.0.0.1:{port}") as client:
        assert not client.ready()
        with pytest.raises(Unavailable):
            client.generate("x", timeout_s=5)
    with pytest.raises(Unavailable, match=str(port)):
        http.generate("x", address=f"127.0.0.1:{port}")


def test_threads_share_a_client(client: Client) -> None:
    texts: dict[int, str] = {}

    def ask(n: int) -> None:
        texts[n] = client.generate(f"thread {n}", max_tokens=8).text

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert texts == {n: f"thread {n}"[:8] for n in range(8)}


@given(prompt=st.text(min_size=1), stops=st.lists(st.text(), max_size=3), seed=st.integers(0, 2**64 - 1))
def test_tensors_hold_what_was_given(prompt: str, stops: list[str], seed: int) -> None:
    message = to_message("m", inputs_of(prompt, {"stop_words": stops, "seed": seed}, stream=True))
    raw = dict(zip((tensor.name for tensor in message.inputs), message.raw_input_contents, strict=True))
    assert raw["text_input"][4:].decode() == prompt
    assert struct.unpack("<Q", raw["seed"])[0] == seed
    assert [list(tensor.shape) for tensor in message.inputs if tensor.name == "stop_words"] == [[1, len(stops)]]


def test_an_empty_response_is_an_empty_delta() -> None:
    from tritonclient.grpc import service_pb2

    assert to_delta(service_pb2.ModelInferResponse()) == Delta()


MOMENTS = (
    "received_time_ns",
    "arrival_time_ns",
    "first_scheduled_time_ns",
    "first_token_time_ns",
    "last_token_time_ns",
)


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "ensemble"])
@pytest.mark.parametrize("stop", [(), ("lo w",)], ids=["to the end", "to a stop string"])
def test_timings_are_told_to_who_asks(server: Running, direct: bool, stop: tuple[str, ...]) -> None:
    with Client(f"127.0.0.1:{server.spec.ports.grpc}", "synthetic", direct=direct) as client:
        before = time.monotonic_ns()
        *others, last = client.stream("hello world", max_tokens=30, stop_words=stop, return_perf_metrics=True)
        after = time.monotonic_ns()
        assert last.timings and not any(delta.timings for delta in others)
        told = [getattr(last.timings, name) for name in MOMENTS]
        assert told == sorted(told) and before <= told[0] and told[-1] <= after
        assert all(delta.timings is None for delta in client.stream("hello", max_tokens=3))
        assert all(delta.timings is None for delta in client.stream("hello", max_tokens=3, return_perf_metrics=False))
