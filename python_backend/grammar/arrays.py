"""Arrays of a schema."""

import json
from typing import TYPE_CHECKING, Any

from python_backend.grammar.ebnf import either, literal, repeated
from python_backend.grammar.merge import Schema
from python_backend.grammar.scalars import count

if TYPE_CHECKING:
    from python_backend.grammar.schema import Compiler

_MOST_UNIQUE = 6  # values to choose from: each set of them is a rule


def array(compiler: "Compiler", schema: Schema, where: str) -> str:
    """An array; '' where there is none."""
    least, most = count(compiler, schema, "minItems", where) or 0, count(compiler, schema, "maxItems", where)
    first, rest = _items(compiler, schema, where)
    if rest is False:
        most = len(first) if most is None else min(most, len(first))
    if most is not None and most < least:
        return ""
    if schema.get("uniqueItems") and (most is None or most > 1):
        return _bracketed(compiler, _unique(compiler, first, rest, (least, most), where))
    return _bracketed(compiler, _elements(compiler, first, rest, (least, most), where))


def _items(compiler: "Compiler", schema: Schema, where: str) -> tuple[list[Any], Any]:
    """The schemas of the first items, and of those after them; False: there are none after them."""
    items, first = schema.get("items"), schema.get("prefixItems", [])
    if isinstance(items, list):  # before draft 2020-12
        first, items = items, schema.get("additionalItems")
    if not isinstance(first, list):
        compiler.invalid(where, "has prefixItems that are no list")
    if (unevaluated := schema.get("unevaluatedItems")) not in (None, False):
        compiler.refuse(where, f"has unevaluatedItems {unevaluated!s:.40}", "Use items")
    if items is None:
        items = not (first or unevaluated is False)
    return first, items


def _elements(compiler: "Compiler", first: list[Any], rest: Any, bounds: tuple[int, int | None], where: str) -> str:
    """What stands between the brackets; '' for nothing."""
    least, most = bounds
    if most == 0:
        return ""
    comma = f'"," {compiler.ws} '
    tail = ""
    if rest is not False and (most is None or most > len(first)):
        item = compiler.rules.rule(compiler.value(rest, f"{where}/items"))
        left = None if most is None else most - len(first)
        if not first:
            more = repeated(comma + item, max(0, least - 1), None if left is None else left - 1)
            return f"{item} {more}" if least else f"({item} {more})?"
        tail = repeated(comma + item, max(0, least - len(first)), left)
    for at in reversed(range(min(len(first), len(first) if most is None else most))):
        item = compiler.value(first[at], f"{where}/prefixItems/{at}")
        part = " ".join(each for each in (comma.strip() if at else "", item, tail) if each)
        tail = part if least > at else f"({part})?"
    return tail


def _unique(compiler: "Compiler", first: list[Any], rest: Any, bounds: tuple[int, int | None], where: str) -> str:
    """Items none of which comes twice: a rule for each set of those that may still come."""
    listed = {} if first or rest is True else compiler.flat(rest, where)
    values = [True, False] if listed.get("type") == "boolean" else listed.get("enum")
    if not isinstance(values, list) or listed.keys() - {"type", "enum", "title", "description"}:
        values = []
    texts = list(dict.fromkeys(json.dumps(value, ensure_ascii=False) for value in values))
    if not 0 < len(texts) <= _MOST_UNIQUE:
        compiler.refuse(
            where,
            f"has uniqueItems, which is kept where items has an enum of at most {_MOST_UNIQUE} values",
            "Leave it out and check the answer, or give each value a property of its own",
        )
    least, most = bounds
    names: dict[frozenset[str], str] = {}

    def after(used: frozenset[str]) -> str:
        if used not in names:
            ways = ['""'] if len(used) >= least else []
            if most is None or len(used) < most:
                comma = f'"," {compiler.ws} ' if used else ""
                ways += [f"{comma}{literal(text)} {after(used | {text})}" for text in texts if text not in used]
            names[used] = compiler.rules.rule(either(ways) if ways else "")
        return names[used]

    if least > len(texts):
        compiler.invalid(where, "allows no value")
    return after(frozenset())


def _bracketed(compiler: "Compiler", elements: str) -> str:
    return " ".join(part for part in ('"["', compiler.ws, elements, compiler.ws if elements else "", '"]"') if part)
