"""Invariant 1: joined deltas are the one-shot decode, for every tokenizer family and any chunks."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from python_backend.postprocess.detokenize import Detokenizer, Vocabulary
from tests.e2e.servers import CODE
from tests.tokenizers_zoo import FAMILIES, real

SERVED = "smollm2-135m"  # the default deployment's own tokenizer, which make engine made
ALL = [*FAMILIES, SERVED]

_chunk_sizes = st.lists(st.integers(1, 7), min_size=1, max_size=8)
_texts = st.text(max_size=60) | st.text(alphabet="日本語é🙂👩‍👧 aZ0\n\u200b\u0301", max_size=40)

_vocabularies: dict[str, Vocabulary] = {}


def vocabulary(family: str) -> Vocabulary:
    if family not in _vocabularies:
        served = CODE / "engines" / SERVED / "current"
        _vocabularies[family] = Vocabulary.of(real(served) if family == SERVED else FAMILIES[family]())
    return _vocabularies[family]


def streamed(known: Vocabulary, ids: list[int], sizes: list[int]) -> str:
    detokenizer, text, at = Detokenizer(known), "", 0
    while at < len(ids):
        for size in sizes:
            text += detokenizer.push(ids[at : at + size])
            at += size
    return text + detokenizer.flush()


def one_shot(tokenizer: Tokenizer, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True))


@pytest.mark.parametrize("family", ALL)
@given(text=_texts, sizes=_chunk_sizes)
@settings(max_examples=150, deadline=None)
def test_text_streams_as_it_decodes(family: str, text: str, sizes: list[int]) -> None:
    known = vocabulary(family)
    ids = known.tokenizer.encode(text).ids
    assert streamed(known, ids, sizes) == one_shot(known.tokenizer, ids)


@pytest.mark.parametrize("family", ALL)
@given(data=st.data(), sizes=_chunk_sizes)
@settings(max_examples=300, deadline=None)
def test_any_ids_stream_as_they_decode(family: str, data: st.DataObject, sizes: list[int]) -> None:
    """Models emit any ids: half characters, byte runs cut by max_tokens, specials, ids without a token."""
    known = vocabulary(family)
    odd = st.sampled_from(sorted(known.byte_tokens | known.silent) or [0])
    ids = data.draw(st.lists(st.integers(0, known.size + 3) | odd, max_size=40))
    assert streamed(known, ids, sizes) == one_shot(known.tokenizer, [i for i in ids if i < known.size])


@pytest.mark.parametrize("family", ALL)
@given(data=st.data(), sizes=st.lists(st.integers(1, 90), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_long_noise_streams_as_it_decodes(family: str, data: st.DataObject, sizes: list[int]) -> None:
    """Longer than the window that is kept for a character that never comes."""
    known = vocabulary(family)
    half = known.tokenizer.encode("🙂é日").ids
    ids = data.draw(st.lists(st.sampled_from(half) | st.integers(0, known.size - 1), min_size=70, max_size=200))
    assert streamed(known, ids, sizes) == one_shot(known.tokenizer, ids)


@pytest.mark.parametrize("family", ALL)
def test_text_does_not_wait_for_the_end(family: str) -> None:
    known = vocabulary(family)
    detokenizer = Detokenizer(known)
    ids = known.tokenizer.encode("The harbour lights went out one by one").ids
    early = "".join(detokenizer.push([i]) for i in ids)
    assert early == one_shot(known.tokenizer, ids)


def test_a_whole_character_waits_for_its_last_byte_only() -> None:
    known = vocabulary("byte_level")
    ids = known.tokenizer.encode("\U0001fae8").ids  # four bytes that no merge joins
    detokenizer = Detokenizer(known)
    assert [detokenizer.push([i]) for i in ids] == [""] * (len(ids) - 1) + ["\U0001fae8"]


def test_the_window_does_not_grow_with_the_stream() -> None:
    known = vocabulary("tiktoken_style")
    detokenizer = Detokenizer(known)
    for _ in range(500):
        for i in known.tokenizer.encode("tide and boats 日本 ").ids:
            detokenizer.push([i])
    assert len(detokenizer._window) < 16


def test_nor_with_bytes_of_no_character() -> None:
    known = vocabulary("byte_level")
    half = known.tokenizer.encode("\U0001fae8").ids[1]
    detokenizer = Detokenizer(known)
    text = "".join(detokenizer.push([half]) for _ in range(1000))
    assert text + detokenizer.flush() == one_shot(known.tokenizer, [half] * 1000)
    assert len(detokenizer._window) < 100
