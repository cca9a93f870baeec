"""Invariant 2: stop strings are found in text across any chunks, and never leak."""

from hypothesis import given, settings
from hypothesis import strategies as st

from python_backend.postprocess.stop import StopMatcher

_text = st.text(alphabet="abc", max_size=30)
_stops = st.lists(st.text(alphabet="abc", min_size=1, max_size=5), min_size=1, max_size=4).map(tuple)


def streamed(stops: tuple[str, ...], chunks: list[str]) -> tuple[str, str]:
    matcher, out = StopMatcher(stops), ""
    for chunk in chunks:
        text, found = matcher.push(chunk)
        out += text
        if found:
            return out, found
    return out + matcher.flush(), ""


def reference(stops: tuple[str, ...], text: str) -> tuple[str, str]:
    """The first position at which the text read so far ends with a stop string, and that string."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, ""


@given(stops=_stops, chunks=st.lists(_text, max_size=12))
@settings(max_examples=1000, deadline=None)
def test_chunks_make_no_difference(stops: tuple[str, ...], chunks: list[str]) -> None:
    assert streamed(stops, chunks) == reference(stops, "".join(chunks))


@given(stops=_stops, text=_text)
@settings(max_examples=300, deadline=None)
def test_only_what_could_become_a_stop_is_held(stops: tuple[str, ...], text: str) -> None:
    matcher = StopMatcher(stops)
    out, found = matcher.push(text)
    if not found:
        held = text[len(out) :]
        assert not held or any(stop.startswith(held) and stop != held for stop in stops)


def test_a_false_start_comes_out() -> None:
    assert streamed(("END",), ["an EN", "GLISH word, E", "N"]) == ("an ENGLISH word, EN", "")


def test_no_stops_hold_nothing() -> None:
    assert StopMatcher(()).push("anything") == ("anything", "")
