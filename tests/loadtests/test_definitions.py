"""docs/metrics.md in figures: answers whose every moment is known, read by the transports' own code, come out exact."""

import itertools
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from loadtests.load import metrics
from loadtests.load.rows import Outcome, Row
from loadtests.load.slo import good, judged, objectives
from loadtests.load.streams import openai, triton_http
from loadtests.load.streams.openai import OpenAI
from loadtests.load.streams.target import Stream, Target
from loadtests.load.streams.triton_grpc import TritonGrpc
from loadtests.load.streams.triton_http import TritonHttp
from loadtests.load.workload import Ask
from tests.loadtests.known import _response as grpc_response

TARGET = Target("http://127.0.0.1:1", "known", 5)
ASK = Ask(({"role": "user", "content": "tide"},), 8)
# Due at 1.000, sent 3 ms late. A role alone at 1.050, then content; 7 tokens in 4 chunks; the end 20 ms after the last.
INTENDED, SENT, ROLE, END = 1.0, 1.003, 1.05, 1.42
CONTENT = ((1.2, 1), (1.25, 2), (1.35, 2), (1.4, 2))

Recorded = list[tuple[float, bytes]]


def row() -> Row:
    return Row(number=0, intended=INTENDED, sent=SENT)


def event(said: Any) -> bytes:
    return b"data: " + json.dumps(said).encode()


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def openai_events(deltas: Callable[[int], dict[str, Any]]) -> Recorded:
    said = [(ROLE, chunk({"role": "assistant", "content": ""}))]
    said += [(at, chunk(deltas(number))) for number, (at, _) in enumerate(CONTENT)]
    said += [(1.41, chunk({}, "length")), (1.41, event({"choices": [], "usage": {"completion_tokens": 7}}))]
    return [*said, (1.41, b""), (END, b"data: [DONE]")]


def triton_events() -> Recorded:
    said = [
        (at, event({"text_output": "x", "output_ids": 5 if tokens == 1 else [5] * tokens})) for at, tokens in CONTENT
    ]
    return [*said, (END, event({"text_output": "", "num_output_tokens": 7, "finish_reason": "length"}))]


def replayed(recorded: Recorded) -> Callable[..., Iterator[tuple[float, bytes]]]:
    """In place of a socket: what it gave, and when."""

    def lines(target: Target, path: str, body: bytes, row: Row, clock: Any) -> Iterator[tuple[float, bytes]]:
        row.status, row.first_byte = 200, recorded[0][0]
        yield from recorded

    return lines


class Call:
    """In place of a gRPC call: its responses, each when the clock says."""

    def __init__(self) -> None:
        self._said = [(at, grpc_response(text_output="x", output_ids=[5] * tokens)) for at, tokens in CONTENT]
        self._said.append((END, grpc_response(text_output="", finish_reason="length", num_output_tokens=[7])))
        self.now = 0.0

    def __iter__(self) -> Iterator[Any]:
        for at, response in self._said:
            self.now = at
            yield response

    def clock(self) -> float:
        return self.now

    def cancel(self) -> None:
        """Of gRPC."""


def over(transport: str, monkeypatch: pytest.MonkeyPatch) -> Row:
    """The known answer over a transport."""
    kinds: dict[str, Callable[[int], dict[str, Any]]] = {
        "content": lambda number: {"content": "x"},
        "reasoning": lambda number: {"reasoning_content": "x"} if number < 2 else {"content": "x"},
        "tool": lambda number: {
            "tool_calls": [{"index": 0, "function": {"arguments": "x"} if number else {"name": "tide_table"}}]
        },
    }
    seen = row()
    stream: Stream
    if transport == "triton-grpc":
        call = Call()
        stream = TritonGrpc(TARGET)
        monkeypatch.setattr(stream, "_calls", itertools.repeat(lambda *_, **__: call))
        stream(ASK, seen, call.clock)
    elif transport == "triton-http":
        monkeypatch.setattr(triton_http, "lines", replayed(triton_events()))
        TritonHttp(TARGET)(ASK, seen, lambda: math.nan)
    else:
        monkeypatch.setattr(openai, "lines", replayed(openai_events(kinds[transport])))
        OpenAI(TARGET, chat=True)(ASK, seen, lambda: math.nan)
    return seen


@pytest.mark.parametrize("transport", ["content", "reasoning", "tool", "triton-http", "triton-grpc"])
def test_a_known_answer_measures_as_it_was(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = over(transport, monkeypatch)
    exactly = pytest.approx
    first_byte = 0.2 if transport.startswith("triton") else 0.05
    assert metrics.lag(seen) == exactly(0.003)
    assert metrics.ttfb(seen) == exactly(first_byte)
    assert metrics.ttft(seen) == exactly(0.2)  # a chunk that only names the role is no token
    assert metrics.itl(seen) == exactly([0.05, 0.1, 0.05])
    assert metrics.tokens_per_chunk(seen) == exactly(7 / 4)
    assert metrics.tpot(seen) == exactly(0.2 / 6)
    assert metrics.tokens_per_s_user(seen) == exactly(30)
    assert metrics.e2e(seen) == exactly(0.42)
    assert [tokens for _, tokens in metrics.arrivals(seen)] == exactly([1, 2, 2, 2])
    assert (seen.output_tokens, seen.finish_reason) == (7, "length")


def test_text_that_is_held_back_brings_its_tokens_later(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = [
        (1.2, event({"text_output": "", "output_ids": [9, 9]})),
        (1.3, event({"text_output": "🌊", "output_ids": 9})),
        (1.4, event({"text_output": "", "num_output_tokens": 3})),
    ]
    monkeypatch.setattr(triton_http, "lines", replayed(recorded))
    seen = row()
    assert TritonHttp(TARGET)(ASK, seen, lambda: math.nan) == "🌊"
    assert seen.chunks == [(1.3, 3)]


def test_queue_time_is_kept_where_the_server_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"arrival_time_ns": 5_000_000_000, "first_scheduled_time_ns": 5_040_000_000}
    monkeypatch.setattr(triton_http, "lines", replayed([(1.2, event({"text_output": "x", **told}))]))
    seen = row()
    TritonHttp(TARGET)(ASK, seen, lambda: math.nan)
    assert seen.queued_s == pytest.approx(0.04)


def test_percentiles_are_exact() -> None:
    values = [5.0, 1.0, 3.0, 2.0, 4.0]
    assert [metrics.percentile(values, share) for share in (0, 50, 75, 95, 100)] == pytest.approx([1, 3, 4, 4.8, 5])
    assert metrics.percentile([1.0, math.inf, math.inf], 95) == math.inf
    assert metrics.percentile([7.0], 99) == 7


def test_objectives_count_a_failed_request_as_the_slowest() -> None:
    wanted = objectives("ttft<500ms, tpot < 60, e2e<2s")
    assert [str(each) for each in wanted] == ["TTFT < 500 ms", "TPOT < 60 ms", "E2E < 2 s"]
    fine = Row(number=0, intended=0, sent=0, chunks=[(0.1, 1), (0.2, 4)], output_tokens=5, ended=0.2)
    slow = Row(number=1, intended=0, sent=0, chunks=[(0.7, 1), (0.8, 4)], output_tokens=5, ended=0.8)
    dead = Row(number=2, intended=0, sent=0, ended=0.1, outcome=Outcome.SERVER_ERROR)
    left = Row(number=3, intended=0, sent=0, chunks=[(0.9, 1)], ended=0.9, outcome=Outcome.CANCELLED)
    assert [good(each, wanted) for each in (fine, slow, dead, left)] == [True, False, False, False]
    at_95 = judged([fine] * 95 + [slow] * 5 + [left] * 50, wanted, 95)
    assert at_95[0].measured_s == pytest.approx(0.1 + 0.05 * 0.6)  # just beyond the 95th of 100
    assert [each.met for each in judged([fine] * 94 + [slow] * 6, wanted, 95)] == [False, True, True]
    assert judged([fine] * 9 + [dead], wanted, 95)[0].measured_s is None
