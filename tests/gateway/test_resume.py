"""What goes on where a server went: what the next one is asked, and what is told where none can go on."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator

import pytest

from clients.request import Delta, Inputs
from contract.errors import ContextTooLong, InvalidRequest, RequestError, Unavailable
from gateway.resume import Begin, resumed

STREAM: Inputs = {"text_input": "x", "max_tokens": 9, "stream": True}
LAST = Delta("d", (4,), finish_reason="length")
Script = Iterable[Delta | RequestError]


def servers(*scripts: Script) -> tuple[Begin, list[tuple[Inputs, list[str]]]]:
    """Each takes one request, with its script; and what they were asked."""
    left: Iterator[Script] = iter(scripts)
    asked: list[tuple[Inputs, list[str]]] = []

    def begin(inputs: Inputs, outputs: Iterable[str]) -> AsyncGenerator[Delta, None]:
        script = next(left, None)
        if script is None:
            raise Unavailable("none is left")
        asked.append((inputs, list(outputs)))
        return played(script)

    return begin, asked


async def played(script: Script) -> AsyncGenerator[Delta, None]:
    for each in script:
        if isinstance(each, RequestError):
            raise each
        yield each


def heard(begin: Begin, inputs: Inputs = STREAM) -> tuple[str, RequestError | None]:
    """The text, and the error that ended it."""
    said: list[str] = []

    async def listen() -> None:
        async for delta in resumed(begin, inputs, ["text_output"]):
            said.append(delta.text)

    try:
        asyncio.run(listen())
    except RequestError as error:
        return "".join(said), error
    return "".join(said), None


def test_the_next_server_is_told_what_there_is() -> None:
    begin, asked = servers([Delta("a", (1, 2)), Unavailable("gone")], [Unavailable("too")], [Delta("bc", (3,))], [LAST])
    assert heard(begin) == ("abcd", None)
    assert [outputs for _, outputs in asked] == [["text_output", "output_ids"]] * 4
    told = [inputs for inputs, _ in asked]
    assert told[0] == STREAM
    assert told[1] == told[2] == STREAM | {"resumed_ids": [1, 2], "resumed_chars": 1}
    assert told[3] == STREAM | {"resumed_ids": [1, 2, 3], "resumed_chars": 3}


def test_what_others_had_begun_is_not_forgotten() -> None:
    begin, asked = servers([Delta("c", (3,)), Unavailable("gone")], [LAST])
    assert heard(begin, STREAM | {"resumed_ids": [1, 2], "resumed_chars": 2}) == ("cd", None)
    assert asked[1][0] == STREAM | {"resumed_ids": [1, 2, 3], "resumed_chars": 3}


def test_an_end_that_came_is_an_end() -> None:
    begin, asked = servers([LAST, Unavailable("gone")])
    assert heard(begin) == ("d", None)
    assert len(asked) == 1


def test_before_the_first_delta_it_begins_anew() -> None:
    begin, asked = servers([Unavailable("gone")], [LAST])
    whole = {**STREAM, "stream": False, "presence_penalty": 1.0}
    assert heard(begin, whole) == ("d", None)
    assert asked == [(whole, ["text_output"])] * 2


@pytest.mark.parametrize(
    ("field", "value"),
    [("presence_penalty", 0.5), ("guided_decoding_guide_type", "json"), ("bad_words", ["x"]), ("prompt_logprobs", 0)],
)
def test_what_no_other_can_go_on_with_is_named(field: str, value: object) -> None:
    begin, asked = servers([Delta("a"), Unavailable("gone")], [LAST])
    text, error = heard(begin, {**STREAM, field: value})
    assert text == "a"
    assert isinstance(error, Unavailable)
    assert error.field == field
    assert "which another cannot go on with" in str(error)
    assert asked[0][1] == ["text_output"]


def test_what_asks_for_nothing_bars_nothing() -> None:
    begin, _ = servers([Delta("a", (1,)), Unavailable("gone")], [LAST])
    assert heard(begin, {**STREAM, "presence_penalty": 0.0, "repetition_penalty": 1.0}) == ("ad", None)


@pytest.mark.parametrize("second", [None, [InvalidRequest("is no input", field="resumed_ids")]], ids=["none", "older"])
def test_without_one_that_can_the_server_went(second: Script | None) -> None:
    begin, _ = servers([Delta("a", (1,)), Unavailable("gone")], *([second] if second else []))
    text, error = heard(begin)
    assert (text, type(error)) == ("a", Unavailable)
    assert str(error) == "the server went in the middle of this answer. Try again: another one takes it"


@pytest.mark.parametrize("refusal", [Unavailable("none"), ContextTooLong("x", field="max_tokens")], ids=repr)
def test_a_refusal_stays_as_it_is(refusal: RequestError) -> None:
    begin, _ = servers([refusal])
    _, error = heard(begin)
    assert isinstance(error, type(refusal))
