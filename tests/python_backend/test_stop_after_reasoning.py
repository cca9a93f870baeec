"""Stop strings are not found in reasoning, are found after it, and no chunking changes what comes out."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contract.errors import InvalidRequest
from contract.tensors import FinishReason
from contract.wire import Delivery, EngineDelta, Opening
from python_backend.postprocess.answer import Answer
from python_backend.postprocess.detokenize import Vocabulary
from python_backend.postprocess.reasoning import after_reasoning
from python_backend.postprocess.stop import StopMatcher
from python_backend.preprocess.inputs import read_prompt
from python_backend.synthetic.tokenizer import EOS_ID, synthetic_backend
from tests.python_backend.test_stop import reference

THINK = ("<think>", "</think>")
OPENED = ("", "</think>")

_text = st.lists(st.sampled_from(["<think>", "</think>", "<th", "</", "STOP", "ST", " ", "\n", "a"]), max_size=10).map(
    "".join
)
_cuts = st.lists(st.integers(1, 6), min_size=1, max_size=5)


def streamed(tags: tuple[str, ...], text: str, cuts: list[int]) -> tuple[str, str]:
    stops, out, at, turn = after_reasoning(StopMatcher(("STOP", "\n\n", "<th")), tags), "", 0, 0
    while at < len(text):
        size = cuts[turn % len(cuts)]
        piece, found = stops.push(text[at : at + size])
        out += piece
        if found:
            return out, found
        at, turn = at + size, turn + 1
    return out + stops.flush(), ""


@given(text=_text, cuts=_cuts, tags=st.sampled_from([THINK, OPENED]))
@settings(max_examples=500, deadline=None)
@example(text="<think>STOP</think>\n\nso", cuts=[1], tags=THINK)
@example(text="<th", cuts=[9], tags=THINK)
def test_stops_count_after_the_reasoning(text: str, cuts: list[int], tags: tuple[str, str]) -> None:
    opening, closing = tags
    begun = text.lstrip().startswith(opening)
    end = text.find(closing) + len(closing) if closing in text else len(text)
    reasoning, answer = (text[:end], text[end:]) if begun else ("", text)
    out, _ = streamed(tags, text, cuts)
    assert out == reasoning + reference(("STOP", "\n\n", "<th"), answer)[0]


def test_reasoning_is_not_held_back() -> None:
    stops = after_reasoning(StopMatcher(("STOP",)), OPENED)
    assert [stops.push(piece)[0] for piece in ("a ST", "OP ", "</th", "ink>", "ST")] == [
        "a ST",
        "OP ",
        "</th",
        "ink>",
        "",
    ]


def test_an_answer_of_tokens() -> None:
    tokenizer = synthetic_backend()
    opening = Opening(num_input_tokens=1, delivery=Delivery(stop=("STOP",), reasoning_tags=THINK))
    answer = Answer(Vocabulary.of(tokenizer, (EOS_ID,)), opening)
    piece = answer.push(EngineDelta(1, ids=tokenizer.encode("<think>no STOP</think>one STOP two").ids))
    assert (piece.text, piece.finish) == ("<think>no STOP</think>one ", FinishReason.STOP)


@pytest.mark.parametrize("tags", [["<think>"], ["<think>", ""], ["a", "b", "c"]])
def test_tags_come_in_pairs(tags: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="what opens and what closes"):
        read_prompt({"text_input": _bytes("A"), "reasoning_tags": _bytes(*tags)})


def _bytes(*texts: str) -> npt.NDArray[Any]:
    return np.array([[text.encode() for text in texts]], dtype=np.object_)
