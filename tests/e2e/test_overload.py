"""Over the limit, a request is refused before prefill; those within it do not notice."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from clients import http
from clients.grpc import Client
from clients.request import joined
from contract.errors import Overloaded
from contract.sections import Streaming
from serving.supervisor import Running
from tests.e2e.servers import metric, synthetic
from tests.serving.stream import until

ROOM = 3


def test_what_postprocess_cannot_carry_does_not_queue(tmp_path: Path) -> None:
    """An engine that gives more than any machine of two cores hands on, and no budget to hold it back."""
    streaming = Streaming(max_responses_per_s=1_000_000, max_interval_ms=1)
    streams, tokens = 48, 400
    with synthetic(tmp_path, step_ms=2, streaming=streaming, max_batch_size=64) as running:
        with Client(f"127.0.0.1:{running.spec.ports.grpc}") as client:
            answers = [client.stream("tide ", max_tokens=tokens) for _ in range(streams)]
            with ThreadPoolExecutor(streams) as readers:
                whole = [joined(deltas) for deltas in readers.map(lambda answer: list(answer), answers)]
        assert [answer.num_output_tokens for answer in whole] == [tokens] * streams
        assert sum(metric(running, "conch_stream_deltas_total").values()) < streams * tokens / 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with synthetic(tmp_path_factory.mktemp("overload"), max_batch_size=2, max_queue_size=1) as running:
        yield running


def test_over_the_limit_is_refused_before_prefill(server: Running) -> None:
    def total(name: str) -> float:
        return sum(metric(server, name).values())

    address = f"127.0.0.1:{server.spec.ports.http}"
    with Client(f"127.0.0.1:{server.spec.ports.grpc}") as client:
        streams = [client.stream("tide ", max_tokens=400) for _ in range(ROOM)]
        begun = [next(stream) for stream in streams]
        refusal = rf"{ROOM} requests are in flight, the limit is {ROOM} \(max_batch_size 2 \+ max_queue_size 1\)"
        with pytest.raises(Overloaded, match=refusal):
            client.generate("x", max_tokens=1)
        with pytest.raises(Overloaded, match=refusal):
            http.generate("x", address=address, max_tokens=1)
        for first, stream in zip(begun, streams, strict=True):
            with closing(stream):
                assert joined([first, *stream]).num_output_tokens == 400
        for _ in until(10, "room again"):
            if total("conch_streams_open") == 0:
                break
        assert client.generate("x", max_tokens=1).text == "x"
    for _ in until(10, "the counters"):
        if total("conch_requests_total") == ROOM + 1:
            break
    assert total("conch_prompt_tokens_total") == 5 * ROOM + 1, "a refused prompt was counted as prefilled"
