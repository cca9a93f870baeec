"""Parsers of tool calls and reasoning: no chunking changes the events, no call is altered, no text is lost."""

import json
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.parsers import (
    GUIDED,
    Content,
    Event,
    Reasoning,
    ToolCallArguments,
    ToolCallStart,
    needs_special_tokens,
    parser_for,
    prompt_opens_reasoning,
    writes_reasoning,
)
from tests.chat_templates import CHATML, DEEPSEEK, HERMES, THINKING

FAMILIES = ("hermes", "llama3", "mistral", "deepseek", GUIDED)
Call = tuple[str, str]  # name, arguments as JSON text

# Everything a family's grammar is made of, and what looks like it.
_MARKS = [
    *("<tool_call>", "</tool_call>", "<tool_", "<tool_call", "</tool", "<|python_tag|>", "<|python", ";"),
    *("[TOOL_CALLS]", "[TOOL", "[ARGS]", "[CALL_ID]", "<think>", "</think>", "<thi", "</th"),
    *(
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁sep｜>",
        "<｜tool▁call▁end｜>",
        "<｜tool▁calls▁end｜>",
    ),
    *("function", "\n```json\n", "\n```", "<｜tool"),
    *('{"name": "f", "arguments": {', '{"name": "f", "parameters": {}}', '{"arguments": {"a": [1, {}]}, "name": "g"}'),
    *('"name"', '"arguments"', ":", ",", "{", "}", "[", "]", '"', "\\", "null", "-1.5e3", "tru", " ", "\n", "f"),
]
_fuzz = st.lists(st.sampled_from(_MARKS) | st.text(max_size=3), max_size=24).map("".join)
_cuts = st.lists(st.integers(1, 9), min_size=1, max_size=8)
_names = st.from_regex(r"[A-Za-z_][\w.-]{0,20}", fullmatch=True).filter(str.isascii)
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    # what would end a call, were it not in a string
    | st.sampled_from(
        ["</tool_call>", "<tool_call>", "}]", '"}', "\\", "```", "[TOOL_CALLS]", "<｜tool▁call▁end｜>", ";"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
_arguments = st.builds(
    lambda value, indent, ascii_only: json.dumps(value, indent=indent, ensure_ascii=ascii_only),
    st.dictionaries(st.text(max_size=8), _json, max_size=4),
    st.none() | st.just(2),
    st.booleans(),
)
_calls = st.lists(st.tuples(_names, _arguments), min_size=1, max_size=4)
_prose = st.sampled_from(
    [
        *("", "Let me look.", "I use <tool_ and [TOOL and <thi", "日本語 👩‍👧 नमस्ते", "a < b; c > d [0]"),
        *("<|pyth", "x } y { z", "line\nline\n\n  indented"),
    ]
)


def run(family: str, text: str, cuts: list[int] | None = None, *, inside: bool | None = None) -> list[Event]:
    """The events of a text in pieces of these sizes, over and over; ``inside`` not None: with reasoning."""
    parser = parser_for(family, tools=True, reasoning=inside is not None, inside=bool(inside))
    events: list[Event] = []
    at = turn = 0
    while at < len(text):
        size = cuts[turn % len(cuts)] if cuts else len(text)
        events += parser.push(text[at : at + size])
        at, turn = at + size, turn + 1
    return events + parser.finish()


def joined(events: list[Event]) -> list[tuple[str, str]]:
    """Events without ids, neighbours of one kind joined."""
    out: list[tuple[str, str]] = []
    for event in events:
        kind = type(event).__name__
        text = event.name if isinstance(event, ToolCallStart) else event.text
        if out and out[-1][0] == kind and kind != "ToolCallStart":
            out[-1] = (kind, out[-1][1] + text)
        else:
            out.append((kind, text))
    return out


def content(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Content))


def calls(events: list[Event]) -> list[Call]:
    names = [event.name for event in events if isinstance(event, ToolCallStart)]
    arguments = [""] * len(names)
    for event in events:
        if isinstance(event, ToolCallArguments):
            arguments[event.index] += event.text
    return list(zip(names, arguments, strict=True))


def written(family: str, made: list[Call], *, variant: bool) -> str:
    """Calls as a model of this family writes them; ``variant``: in the other of its two forms."""
    if family == "hermes":
        order = '{{"arguments": {1}, "name": "{0}"}}' if variant else '{{"name": "{0}", "arguments": {1}}}'
        return "\n".join(f"<tool_call>\n{order.format(name, args)}\n</tool_call>" for name, args in made)
    if family == "llama3":
        text = "; ".join(f'{{"name": "{name}", "parameters": {args}}}' for name, args in made)
        return f"<|python_tag|>{text}" if variant else text
    if family == "mistral" and variant:
        return "".join(f"[TOOL_CALLS]{name}[ARGS]{args}" for name, args in made)
    if family == "deepseek":
        v3 = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{}\n```json\n{}\n```<｜tool▁call▁end｜>"
        form = "<｜tool▁call▁begin｜>{}<｜tool▁sep｜>{}<｜tool▁call▁end｜>" if variant else v3
        text = ("" if variant else "\n").join(form.format(*call) for call in made)
        return f"<｜tool▁calls▁begin｜>{text}<｜tool▁calls▁end｜>"
    items = ", ".join(f'{{"name": "{name}", "arguments": {args}}}' for name, args in made)
    if family == GUIDED:
        return items if len(made) == 1 and variant else f"[{items}]"
    return f"[TOOL_CALLS] [{items}]"


@pytest.mark.parametrize("family", FAMILIES)
@given(made=_calls, prose=_prose, variant=st.booleans(), cuts=_cuts)
@settings(max_examples=150, deadline=None)
def test_calls_come_out_as_they_were_written(
    family: str, made: list[Call], prose: str, variant: bool, cuts: list[int]
) -> None:
    if family == GUIDED or (family == "llama3" and not variant):
        prose = ""  # the answer is the call
    text = prose + written(family, made, variant=variant)
    events = run(family, text, cuts)
    assert calls(events) == made
    assert content(events) == prose.rstrip()
    starts = [event for event in events if isinstance(event, ToolCallStart)]
    assert [start.index for start in starts] == list(range(len(made)))
    assert len({start.id for start in starts}) == len(made)


@pytest.mark.parametrize("family", FAMILIES)
@given(text=_fuzz, cuts=_cuts, inside=st.sampled_from([None, False, True]))
@settings(max_examples=500, deadline=None)
@example(text='<tool_call>{"name: <tool_call>{"name": "f", "arguments": {}}</tool_call>', cuts=[1], inside=None)
@example(text='[TOOL_CALLS]f[ARGS]{"a": "\\', cuts=[1], inside=None)
def test_chunks_make_no_difference(family: str, text: str, cuts: list[int], inside: bool | None) -> None:
    whole, pieces = run(family, text, inside=inside), run(family, text, cuts, inside=inside)
    assert joined(pieces) == joined(whole)
    if inside is None and not calls(whole) and family != GUIDED:
        assert content(whole) == text


@pytest.mark.parametrize("family", FAMILIES)
@given(made=_calls, variant=st.booleans(), cuts=_cuts, kept=st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_a_cut_off_answer_keeps_what_it_has(
    family: str, made: list[Call], variant: bool, cuts: list[int], kept: float
) -> None:
    """max_tokens falls anywhere: arguments are a beginning of what they would have been."""
    text = written(family, made, variant=variant)
    got = calls(run(family, text[: int(len(text) * kept)], cuts))
    assert got[:-1] == made[: len(got)][:-1]
    if got:
        name, arguments = made[len(got) - 1]
        assert got[-1][0] == name
        assert arguments.startswith(got[-1][1])


@pytest.mark.parametrize("family", FAMILIES)
@given(prose=_prose | st.text(max_size=80), cuts=_cuts)
@settings(max_examples=150, deadline=None)
def test_plain_text_is_untouched(family: str, prose: str, cuts: list[int]) -> None:
    assert content(run(family, prose, cuts)) == ("" if family == GUIDED else prose)


FORMS = [
    ('{"name": "look", "arguments": {"at": 3}}', [("look", '{"at": 3}')], ""),
    ('[ {"name":"look","arguments":{}},\n {"name":"go","arguments":{}}]', [("look", "{}"), ("go", "{}")], ""),
    ('[{"name": "look", "arguments": {}}, {"name": "g', [("look", "{}")], ""),
    ('[\n  {"name": "lo', [], ""),
    ('{"name": "Lisbon", "arguments": {}}', [], '{"name": "Lisbon", "arguments": {}}'),
    ('{"name": "looking"}', [], '{"name": "looking"}'),
    ('{ "city": "Lis', [], '{ "city": "Lis'),
    ("3", [], "3"),
]


@pytest.mark.parametrize(("text", "made", "said"), FORMS)
@pytest.mark.parametrize("size", [1, 3, 99])
def test_calls_or_a_text_of_a_form(text: str, made: list[Call], said: str, size: int) -> None:
    parser = parser_for(GUIDED, tools=True, reasoning=False, names=("look", "go"))
    events = [event for at in range(0, len(text), size) for event in parser.push(text[at : at + size])]
    events += parser.finish()
    assert (calls(events), content(events)) == (made, said)


@pytest.mark.parametrize("family", FAMILIES)
def test_arguments_stream(family: str) -> None:
    """A call is announced as soon as its name is known, and its arguments do not wait for their end."""
    text = written(family, [("look", '{"place": "Lisbon", "days": 3}')], variant=family == "llama3")
    parser = parser_for(family, tools=True, reasoning=False)
    seen: list[Event] = []
    for character in text[: text.index("Lis") + 3]:
        seen += parser.push(character)
    assert calls(seen) == [("look", '{"place": "Lis')]


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("hermes", "<tool_call>look(place)</tool_call>"),
        ("hermes", '<tool_call>{"name": "two words", "arguments": {}}</tool_call>'),
        ("hermes", '<tool_call>{"name": "look", "arguments": "text"}</tool_call>'),
        ("hermes", '<tool_call>{"arguments": {}}</tool_call>'),
        ("hermes", "<tool_call>\n<function=look>\n</function></tool_call>"),
        ("llama3", '{"city": "Paris", "name": "x", "parameters": {}}'),
        ("llama3", '{"name": "Paris"}'),
        ("llama3", 'He wrote {"name": "f", "parameters": {}}'),
        ("llama3", '<|python_tag|>search.call(query="tides")'),
        ("mistral", "[TOOL_CALLS] are written so. And [TOOL_CALLS][]"),
        ("mistral", "[TOOL_CALLS]two words[ARGS]{}"),
        ("deepseek", "<｜tool▁calls▁begin｜>nothing<｜tool▁calls▁end｜>"),
        ("deepseek", "<｜tool▁call▁begin｜>no separator {}"),
    ],
)
def test_what_is_no_call_is_content(family: str, text: str) -> None:
    for cuts in ([1], [7], None):
        assert joined(run(family, text, cuts)) == [("Content", text)]


@pytest.mark.parametrize(
    ("family", "text", "expected"),
    [
        # broken in the middle of the arguments: they stay a call's, the rest is content
        (
            "hermes",
            '<tool_call>{"name": "f", "arguments": {"a": 1]}</tool_call>',
            [("ToolCallStart", "f"), ("ToolCallArguments", '{"a": 1'), ("Content", "]}</tool_call>")],
        ),
        # a broken call does not take the next one with it
        (
            "hermes",
            '<tool_call>{"name: oops <tool_call>{"name": "f", "arguments": {}}</tool_call>',
            [("Content", '<tool_call>{"name: oops'), ("ToolCallStart", "f"), ("ToolCallArguments", "{}")],
        ),
        ("hermes", '<tool_call>{"name": "now"}</tool_call>', [("ToolCallStart", "now"), ("ToolCallArguments", "{}")]),
        (
            "hermes",
            '<tool_call>{"name": "now", "arguments": null}</tool_call>\nDone.',
            [("ToolCallStart", "now"), ("ToolCallArguments", "{}"), ("Content", "\nDone.")],
        ),
        (
            "hermes",  # SmolLM2's way
            '<tool_call>[{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]</tool_call>',
            [
                *[("ToolCallStart", "f"), ("ToolCallArguments", "{}")],
                *[("ToolCallStart", "g"), ("ToolCallArguments", "{}")],
            ],
        ),
        (
            "mistral",
            '[TOOL_CALLS][{"name": "f", "arguments": {}, "id": "abc123XYZ"}]',
            [("ToolCallStart", "f"), ("ToolCallArguments", "{}")],
        ),
        (
            "mistral",
            'Yes.[TOOL_CALLS]f[CALL_ID]abc123XYZ[ARGS]{}[TOOL_CALLS]g{"a": 1}',
            [
                ("Content", "Yes."),
                *[("ToolCallStart", "f"), ("ToolCallArguments", "{}")],
                *[("ToolCallStart", "g"), ("ToolCallArguments", '{"a": 1}')],
            ],
        ),
        (
            "llama3",
            '{"type": "function", "name": "f", "parameters": {"a": 1}}',
            [("ToolCallStart", "f"), ("ToolCallArguments", '{"a": 1}')],
        ),
    ],
)
def test_forms(family: str, text: str, expected: list[tuple[str, str]]) -> None:
    for cuts in ([1], [3], None):
        assert joined(run(family, text, cuts)) == expected


@pytest.mark.parametrize(
    ("text", "inside", "expected"),
    [
        ("<think>\nhm\n</think>\n\nYes", False, [("Reasoning", "hm"), ("Content", "Yes")]),
        ("hm</think>Yes", True, [("Reasoning", "hm"), ("Content", "Yes")]),
        ("<think>hm</think>Yes", True, [("Reasoning", "hm"), ("Content", "Yes")]),
        ("<think></think>Yes", False, [("Content", "Yes")]),
        ("hm, still thinking </thi", True, [("Reasoning", "hm, still thinking </thi")]),
        ("No <think>tags</think>", False, [("Content", "No <think>tags</think>")]),
        (" <thi", False, [("Content", " <thi")]),
        (
            '<think>a</think>\n<tool_call>{"name": "f", "arguments": {}}</tool_call>',
            False,
            [("Reasoning", "a"), ("ToolCallStart", "f"), ("ToolCallArguments", "{}")],
        ),
        (
            '<think><tool_call>{"name": "f", "arguments": {}}</tool_call></think>No.',
            False,
            [("Reasoning", '<tool_call>{"name": "f", "arguments": {}}</tool_call>'), ("Content", "No.")],
        ),
    ],
)
def test_reasoning(text: str, inside: bool, expected: list[tuple[str, str]]) -> None:
    for cuts in ([1], [4], None):
        assert joined(run("hermes", text, cuts, inside=inside)) == expected


def test_reasoning_streams() -> None:
    parser = parser_for("none", tools=False, reasoning=True)
    assert parser.push("<think>one two") == [Reasoning("one two")]
    assert parser.push(" three") == [Reasoning(" three")]


def test_mistral_has_reasoning_tags_of_its_own() -> None:
    assert joined(run("mistral", "[THINK]hm[/THINK]Yes", [2], inside=False)) == [
        ("Reasoning", "hm"),
        ("Content", "Yes"),
    ]


def test_without_tools_or_reasoning_text_passes() -> None:
    for family in (*FAMILIES[:-1], "none"):
        parser = parser_for(family, tools=False, reasoning=False)
        assert parser.push('<tool_call>{"name"') == [Content('<tool_call>{"name"')]
        assert parser.finish() == []


def test_special_tokens_are_needed_where_markers_are_special() -> None:
    assert [name for name in (*FAMILIES, "none") if needs_special_tokens(name)] == ["llama3", "mistral", "deepseek"]


def test_long_and_deep_answers_take_linear_time() -> None:
    """A hang would be minutes; nesting is no recursion."""
    deep = "[" * 100_000 + "]" * 100_000
    long = json.dumps({"deep": 0, "text": "x" * 100_000}).replace("0", deep, 1)
    before = time.monotonic()
    assert calls(run("hermes", written("hermes", [("f", long)], variant=False), [50])) == [("f", long)]
    assert content(run("hermes", '<tool_call>{"' * 20_000, [50])) == '<tool_call>{"' * 20_000
    assert time.monotonic() - before < 60


@pytest.mark.parametrize(
    ("template", "variables", "opens"),
    [
        (CHATML, {}, False),
        (HERMES, {}, False),  # the model opens it
        (HERMES, {"enable_thinking": False}, False),
        (THINKING, {}, True),
        (DEEPSEEK, {}, False),
        (DEEPSEEK, {"thinking": True}, True),
        (DEEPSEEK, {"thinking": True, "messages": [], "padding": "x" * 5000}, True),
        ("{% if %}<think>", {}, False),  # preprocess says what is wrong
        ("{{ none.none.none }}<think>", {}, False),
        ("{% generation %}<think>{% endgeneration %}", {}, True),
    ],
)
def test_whether_the_prompt_opens_the_reasoning(template: str, variables: dict[str, Any], opens: bool) -> None:
    assert prompt_opens_reasoning(template, variables) is opens


def test_which_templates_reason() -> None:
    assert [writes_reasoning(template, "") for template in (CHATML, HERMES, THINKING)] == [False, True, True]
    assert not writes_reasoning(THINKING, "mistral")
