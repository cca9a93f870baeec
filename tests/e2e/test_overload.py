"""Over the limit, a request is refused before prefill; those within it do not notice."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from clients import http
from clients.grpc import Client
from clients.request import joined
from contract.errors import Overloaded
from serving.supervisor import Running
from tests.e2e.servers import metric, synthetic
from tests.serving.stream import until

ROOM = 3


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
