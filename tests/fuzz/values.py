"""Values that no field expects, and JSON text that no encoder writes."""

import json
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

_TEXTS = [
    *("", " ", "\0", "\n\r\t", "\x1b[2J", "\ufeff", "\U0001fae8", "e\u0301" * 50, "<eos>", "{{ 1/0 }}", "{% for %}"),
    *("<tool_call>", "</think>", "[" * 300, "a" * 5_000, "\U0001fae8" * 3_000, "../../etc/passwd", "%s%n", "NaN", "-1"),
    *("json_schema", "(a*)*b", "a{0,99999}", "root ::= root", '{"type": "object"}', "data:image/png;base64,AAAA"),
]
_NUMBERS = [0, -1, 1, 2, 3, 255, 2**31 - 1, 2**31, -(2**31) - 1, 2**53, 2**63, 2**64, 10**400, 0.0, -0.5, 1e-320, 1e308]

texts = st.sampled_from(_TEXTS) | st.text(max_size=20).filter(lambda text: text.isprintable() or not text)
scalars = st.none() | st.booleans() | st.sampled_from(_NUMBERS) | texts
names = st.sampled_from(["type", "content", "role", "text", "name", "id", "a", "", "$ref", "__class__"]) | texts
odd: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=12
) | st.sampled_from([["a"] * 5_000, [0] * 20_000, [[]] * 3_000, {str(n): n for n in range(2_000)}, [{}] * 500])

# What stands for itself in the JSON: no encoder writes it.
_RAW = [
    *(
        "NaN",
        "Infinity",
        "-",
        "01",
        "1e9999",
        '"\\ud800"',
        '"\\u0000"',
        '"\\x41"',
        "'a'",
        "tru",
        "[1,]",
        '{"a":1,"a":2}',
    ),
    *("[" * 2_000 + "]" * 2_000, "[" * 120_000, '{"a":' * 500 + "1" + "}" * 500, "9" * 5_000, "/* */ 1", ""),
]


@st.composite
def dumped(draw: st.DrawFn, value: Any) -> bytes:
    """A value as JSON; now and then with something in it that is none."""
    text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    raw = draw(st.none() | st.none() | st.none() | st.sampled_from(_RAW))
    if raw is not None:
        text = text.replace("null", raw, 1) if "null" in text else text[:-1] + f', "extra": {raw}' + text[-1:]
    return text.encode("utf-8", "surrogatepass")


@st.composite
def bitten(draw: st.DrawFn, data: bytes) -> bytes:
    """The same bytes, a few of them changed, left out or doubled."""
    found = bytearray(data)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(found)))
        match draw(st.integers(0, 3)):
            case 0:
                del found[at : at + draw(st.integers(1, 30))]
            case 1:
                found[at:at] = draw(st.binary(max_size=8))
            case 2:
                found[at:at] = found[at : at + draw(st.integers(1, 60))]
            case _:
                found[at : at + 1] = bytes([draw(st.integers(0, 255))])
    return bytes(found)


@st.composite
def mutated(draw: st.DrawFn, body: Any, fields: list[str]) -> Any:
    """A body with some of it swapped, left out, added, nested or made huge."""
    made = deepcopy(body)  # what is drawn may be drawn again: only a copy may be changed
    for _ in range(draw(st.integers(0, 3))):
        places = list(_places(made))
        holder, key = draw(st.sampled_from(places)) if places else (None, None)
        match draw(st.integers(0, 4)):
            case 0 if holder is not None:
                del holder[key]
            case 1 if holder is not None:
                holder[key] = deepcopy(draw(odd))
            case 2 if holder is not None:
                holder[key] = draw(st.sampled_from([[holder[key]], {"value": holder[key]}, [holder[key]] * 300]))
            case 3 if isinstance(made, dict):
                made[draw(texts)] = deepcopy(draw(odd))
            case _ if isinstance(made, dict) and fields:
                made[draw(st.sampled_from(fields))] = deepcopy(draw(odd))
    return made


def _places(value: Any) -> Any:
    """Every (container, key) of a body."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in list(inner)[:50]:
        yield value, key
        yield from _places(each)
