"""Two versions of a deployment in one gateway: who is asked, and who helps."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.request import Delta, Inputs, Tokens
from clients.wire import OUTPUTS
from contract.errors import EngineFailed, InvalidRequest, RequestError, Unavailable
from contract.rollout import Rollout
from gateway.in_turn import InTurn
from gateway.schema.chat import ChatBody
from gateway.schema.messages import MessagesBody
from gateway.schema.responses import ResponsesBody
from gateway.schema.text import TextBody
from gateway.sticky import sticky_of
from gateway.versions import picked

IDS = (11, 12, 13, 14)


@dataclass
class Scripted:
    """A server that answers IDS, one a delta, and fails after so many."""

    fails: RequestError | None = None
    after: int = 0
    asked: list[Inputs] = field(default_factory=list)

    async def deltas(
        self, inputs: Inputs, *, timeout_s: float | None = None, request_id: str = "", outputs: Iterable[str] = OUTPUTS
    ) -> AsyncGenerator[Delta, None]:
        self.asked.append(inputs)
        had = len(inputs.get("resumed_ids", ()))
        for at in range(had, len(IDS)):
            if self.fails and at >= self.after:
                raise self.fails
            last = at == len(IDS) - 1
            yield Delta(text=f" {IDS[at]}", output_ids=(IDS[at],), finish_reason="length" if last else "")

    async def count(self, inputs: Inputs, *, timeout_s: float | None = None) -> int:
        if self.fails:
            raise self.fails
        return 3

    async def tokenize(
        self, inputs: Inputs, *, add_special_tokens: bool = True, timeout_s: float | None = None
    ) -> Tokens:
        if self.fails:
            raise self.fails
        return Tokens([1], ["a"], "a")

    async def close(self) -> None:
        """Nothing is open."""


def answered(client: InTurn) -> list[Delta]:
    async def walk() -> list[Delta]:
        return [delta async for delta in client.deltas({"text_input": "x", "stream": True})]

    deltas = asyncio.run(walk())
    assert client.in_flight == 0
    return deltas


@pytest.mark.parametrize("fault", [Unavailable("gone"), EngineFailed("broke")])
@pytest.mark.parametrize("after", [0, 2])
def test_the_other_version_answers_what_one_fails_on(fault: RequestError, after: int) -> None:
    first, second = Scripted(fault, after), Scripted()
    deltas = answered(InTurn(first, second))
    assert [token for delta in deltas for token in delta.output_ids] == list(IDS)
    assert [delta.by_another for delta in deltas] == [False, False, False, True]
    assert second.asked[0].get("resumed_ids", []) == list(IDS[:after])


def test_who_answers_himself_says_so() -> None:
    second = Scripted()
    assert not any(delta.by_another for delta in answered(InTurn(Scripted(), second)))
    assert not second.asked


def test_ids_of_another_vocabulary_are_not_gone_on_with() -> None:
    with pytest.raises(Unavailable):
        answered(InTurn(Scripted(Unavailable("gone"), 2), Scripted(), alike=False))
    assert len(answered(InTurn(Scripted(Unavailable("gone")), Scripted(), alike=False))) == len(IDS)


def test_what_the_request_is_at_fault_for_is_told() -> None:
    second = Scripted()
    with pytest.raises(InvalidRequest):
        answered(InTurn(Scripted(InvalidRequest("is bad", field="top_p")), second))
    assert not second.asked


def test_what_both_fail_on_is_told_as_the_second_has_it() -> None:
    with pytest.raises(EngineFailed, match="second"):
        answered(InTurn(Scripted(Unavailable("first")), Scripted(EngineFailed("second"))))


def test_tokens_are_counted_by_whoever_can() -> None:
    client = InTurn(Scripted(Unavailable("gone")), Scripted())
    assert asyncio.run(client.count({"text_input": "x"})) == 3
    assert asyncio.run(client.tokenize({"text_input": "x"})).ids == [1]


@given(st.binary(max_size=40), st.floats(0, 1), st.floats(0, 1))
def test_who_is_asked_stays_so_as_the_share_grows(sticky: bytes, one: float, other: float) -> None:
    small, large = (rollout(share) for share in sorted((one, other)))
    assert picked(small, sticky) <= picked(large, sticky)
    assert picked(rollout(1.0), sticky)
    assert not picked(rollout(0.0), sticky)


def test_a_share_is_a_share() -> None:
    count = sum(picked(rollout(0.25), f"user {number}".encode()) for number in range(4000))
    assert 900 < count < 1100


def rollout(share: float) -> Rollout:
    return Rollout("20261130-120000", share, Path("trial.yaml"), Path("trial"))


SYSTEM = {"role": "system", "content": "be brief"}
FIRST = {"role": "user", "content": "hello"}
MORE = [{"role": "assistant", "content": "hi"}, {"role": "user", "content": "and now?"}]


def chat(*messages: dict[str, str], **more: Any) -> ChatBody:
    return ChatBody.model_validate({"model": "m", "messages": list(messages), **more})


def test_a_conversation_stays_together_as_it_grows() -> None:
    assert sticky_of("", chat(SYSTEM, FIRST)) == sticky_of("", chat(SYSTEM, FIRST, *MORE))
    assert sticky_of("", chat(SYSTEM, FIRST)) != sticky_of("", chat(SYSTEM, MORE[1]))


def test_a_session_then_a_user_comes_before_what_is_said() -> None:
    assert sticky_of("s", chat(FIRST)) == sticky_of("s", chat(MORE[1], user="u"))
    assert sticky_of("", chat(FIRST, user="u")) == sticky_of("", chat(MORE[1], user="u"))
    anthropic = {"model": "m", "max_tokens": 5, "messages": [FIRST], "metadata": {"user_id": "u"}}
    assert sticky_of("", MessagesBody.model_validate(anthropic)) == b"u"


@pytest.mark.parametrize(
    ("schema", "field", "value"),
    [
        (TextBody, "prompt", "a long story"),
        (TextBody, "prompt", [1, 2, 3]),
        (ResponsesBody, "input", "hello"),
        (ResponsesBody, "input", [{"role": "user", "content": "hello"}]),
    ],
)
def test_every_body_has_something(schema: Any, field: str, value: Any) -> None:
    assert sticky_of("", schema.model_validate({"model": "m", field: value}))
