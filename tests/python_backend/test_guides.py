"""Guides that would break or stop the engine are refused outside of it, with the reason; the others pass."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from contract.errors import InvalidRequest, Unavailable, from_wire
from contract.sampling import SamplingParams
from contract.stage import key_of, new_abort_key, whose, whose_of
from contract.tensors import FinishReason
from python_backend import guides
from python_backend.gate import GatedEngine
from python_backend.guides import GuideProcess
from python_backend.protocol import Output
from python_backend.synthetic.engine import SyntheticEngine
from tests.e2e.servers import CODE

ENGINE = CODE / "engines" / "smollm2-135m" / "current"
SLOW = "((a{0,300}){0,300})"  # 20 s
DEEP = '{"type": "array", "items": ' * 20_000 + "{}" + "}" * 20_000  # overflows the compiler's stack, or takes minutes


def asking(kind: str, text: str) -> SamplingParams:
    return SamplingParams(max_tokens=3, guided_decoding_guide_type=kind, guided_decoding_guide=text)


@pytest.fixture(scope="module")
def process() -> Iterator[GuideProcess]:
    made = GuideProcess(ENGINE, "openvino")
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("json", ""),
        ("json_schema", '{"type": "object", "properties": {"a": {"type": "integer"}}}'),
        ("json_schema", '{"$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}}, "$ref": "#/$defs/n"}'),
        ("regex", "[a-z]{1,20}"),
        ("ebnf_grammar", 'root ::= "yes" | "no"'),
    ],
)
def test_good_guides_pass(process: GuideProcess, kind: str, text: str) -> None:
    assert process.refusal(asking(kind, text)) == ""


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("json_schema", '{"type": "poem"}', 'Unsupported type "poem"'),
        ("json_schema", '{"$ref": "#/nowhere"}', "Cannot find field nowhere"),
        ("json_schema", "not json", "Failed to parse JSON"),
        ("json_schema", "false", "it cannot accept any value"),
        ("regex", "(", "The parenthesis is not closed"),
        ("ebnf_grammar", "nothing", 'The root rule with name "root" is not found'),
        ("ebnf_grammar", "\u00bc\u0094E", "EBNF"),  # which is quoted by a part of a character
        ("regex", SLOW, "s of CPU"),
        ("json_schema", DEEP, "s of CPU"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_bad_guides_are_refused_with_the_reason(process: GuideProcess, kind: str, text: str, reason: str) -> None:
    refusal = process.refusal(asking(kind, text))
    assert reason in refusal
    assert "/home/" not in refusal and ".cc" not in refusal
    assert process.refusal(asking("regex", "a+")) == ""  # it is there for the next one


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_process_is_not_the_guides_fault(
    process: GuideProcess, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    assert process.refusal(asking("regex", "z")) == ""  # it runs
    monkeypatch.setattr(guides, "_MOST_S", 1)
    os.kill(process._process.pid, number)  # type: ignore[union-attr]
    assert process.refusal(asking("regex", f"y{{{number}}}")) == ""


def test_a_loss_is_forgotten(process: GuideProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(guides, "_PYTHON", Path("/bin/false"))
        process.stop()
        with pytest.raises(Unavailable, match="Try again"):
            process.refusal(asking("regex", "x{7}"))
    assert process.refusal(asking("regex", "x{7}")) == ""


class Collected:
    """Outputs by key, as they come."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._outputs: dict[int, list[Output]] = {}

    def __call__(self, outputs: Sequence[Output]) -> None:
        with self._changed:
            for output in outputs:
                self._outputs.setdefault(output.key, []).append(output)
            self._changed.notify_all()

    def ended(self, key: int) -> Output:
        """The last output of a request, once it came."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(o.finish for o in self._outputs.get(key, [])), timeout=60)
            (last,) = (output for output in self._outputs[key] if output.finish)
            return last


@pytest.fixture
def gated(process: GuideProcess) -> Iterator[tuple[GatedEngine, Collected]]:
    engine, outputs = GatedEngine(SyntheticEngine(step_ms=1), process), Collected()
    engine.start(outputs)
    yield engine, outputs
    engine.stop()


def test_the_gate_lets_through_what_is_good(gated: tuple[GatedEngine, Collected]) -> None:
    engine, outputs = gated
    engine.submit(1, [65, 66], asking("regex", "a+"))
    engine.submit(2, [65, 66], asking("regex", "("))
    engine.submit(3, [65, 66], SamplingParams(max_tokens=2))
    assert outputs.ended(1).finish == outputs.ended(3).finish == FinishReason.LENGTH
    refused = outputs.ended(2)
    assert refused.finish == FinishReason.ERROR
    error = from_wire(refused.error)
    assert isinstance(error, InvalidRequest) and error.field == "guided_decoding_guide"
    assert "parenthesis" in str(error)


def test_nobody_waits_for_a_slow_guide_but_guides(gated: tuple[GatedEngine, Collected]) -> None:
    engine, outputs = gated
    slow = SLOW + "b"  # not the one that is remembered
    engine.submit(1, [65], asking("regex", slow))
    engine.submit(2, [65], asking("regex", "c+"))
    engine.submit(3, [65], SamplingParams(max_tokens=2))
    outputs.ended(3)
    assert engine.stats().waiting == 2
    engine.abort(1)
    assert outputs.ended(1).finish == FinishReason.CANCELLED
    assert outputs.ended(2).finish == FinishReason.LENGTH
    assert engine.stats().waiting == 0


def test_clients_take_turns(gated: tuple[GatedEngine, Collected]) -> None:
    engine, outputs = gated
    greedy, modest = whose_of("greedy.1"), whose_of("modest.1")
    slow = [key_of(greedy, number) for number in range(3)]
    for key in slow:
        engine.submit(key, [65], asking("regex", f"{SLOW}{key}"))
    engine.submit(key_of(modest, 9), [65], asking("regex", "d+"))
    assert outputs.ended(key_of(modest, 9)).finish == FinishReason.LENGTH
    assert engine.stats().waiting == 2
    for key in slow[1:]:
        engine.abort(key)
    assert outputs.ended(slow[0]).finish == FinishReason.ERROR


def test_whose_a_key_is() -> None:
    assert whose(key_of(whose_of("ann.1"), 7)) == whose_of("ann.2") != whose_of("ben.1")
    assert whose_of("no-client") == whose_of("") == 0
    assert key_of(whose_of("ann.1"), 1 << 39) < 1 << 62 <= new_abort_key()
