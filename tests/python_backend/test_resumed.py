"""An answer that another stage goes on with is the answer of one: text, ids, counts and what ended it."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.tensors import FinishReason
from contract.wire import Delivery, EngineDelta, Opening
from python_backend.postprocess.answer import Answer, Piece
from tests.python_backend.test_detokenize import ALL, vocabulary

_sizes = st.lists(st.integers(1, 5), min_size=1, max_size=5)
_texts = st.text(alphabet="日本é🙂👩‍👧 abc\n\u0301", max_size=40)
_stops = st.lists(st.text(alphabet="abc 日", min_size=1, max_size=4), max_size=2).map(tuple)


def pieces(answer: Answer, ids: list[int], sizes: list[int]) -> Iterator[Piece]:
    """The responses of one stage: what has no text waits for what has."""
    unsent, at, turn = Piece(), 0, 0
    while not unsent.finish:
        size = sizes[turn % len(sizes)]
        last = at + size >= len(ids)
        unsent.extend(answer.push(EngineDelta(1, ids[at : at + size], finish=FinishReason.LENGTH if last else "")))
        at, turn = at + size, turn + 1
        if unsent.text or unsent.finish:
            yield unsent
            unsent = Piece(finish=unsent.finish)


@pytest.mark.parametrize("family", ALL)
@given(data=st.data(), text=_texts, stops=_stops, sizes=_sizes, others=_sizes, heard=st.integers(0, 12))
@settings(max_examples=200, deadline=None)
def test_two_stages_say_what_one_says(
    family: str, data: st.DataObject, text: str, stops: tuple[str, ...], sizes: list[int], others: list[int], heard: int
) -> None:
    known = vocabulary(family)
    noise = data.draw(st.lists(st.integers(0, known.size + 3), max_size=6))
    ids = known.tokenizer.encode(text, add_special_tokens=False).ids + noise or [0]
    tags = data.draw(st.sampled_from([(), ("", "c"), ("a", "b")]))

    def opening(ids: tuple[int, ...] = (), characters: int = 0) -> Opening:
        return Opening(7, Delivery(True, stops, tags, resumed_chars=characters), resumed_ids=ids)

    alone = Answer(known, opening())
    whole = list(pieces(alone, ids, [1]))
    got = [piece for _, piece in zip(range(heard), pieces(Answer(known, opening()), ids, sizes), strict=False)]
    had = [token for piece in got for token in piece.ids]
    if not (got and got[-1].finish):
        said = sum(len(piece.text) for piece in got)
        second = Answer(known, opening(tuple(had), said))
        got += pieces(second, ids[len(had) :], others)
        assert second.num_output_tokens == alone.num_output_tokens
    assert "".join(piece.text for piece in got) == "".join(piece.text for piece in whole)
    assert [token for piece in got for token in piece.ids] == [token for piece in whole for token in piece.ids]
    assert (got[-1].finish, got[-1].matched_stop) == (whole[-1].finish, whole[-1].matched_stop)


def test_who_has_no_text_yet_gets_all_of_it() -> None:
    known = vocabulary("byte_level")
    ids = known.tokenizer.encode("The tide").ids
    answer = Answer(known, Opening(7, resumed_ids=tuple(ids)))
    (piece,) = pieces(answer, [], [1])
    assert (piece.text, piece.ids, piece.finish) == ("The tide", [], FinishReason.LENGTH)


def test_a_stop_string_that_was_complete_ends_it_at_once() -> None:
    known = vocabulary("byte_level")
    ids = known.tokenizer.encode("one END two").ids
    answer = Answer(known, Opening(7, Delivery(stop=("END",)), resumed_ids=tuple(ids)))
    piece = answer.push(EngineDelta(1, [5]))
    assert (piece.text, piece.ids, piece.finish) == ("one ", [], FinishReason.STOP)


def test_the_prompt_alone_counts_as_cached() -> None:
    answer = Answer(vocabulary("byte_level"), Opening(7, resumed_ids=(1, 2)))
    answer.push(EngineDelta(1, [3], cached_tokens=9))
    assert answer.cached_tokens == 7
