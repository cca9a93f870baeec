"""Objects of a schema."""

import re
from typing import TYPE_CHECKING, Any

from python_backend.grammar import text
from python_backend.grammar.ebnf import Ranges, either, one_of, repeated, without
from python_backend.grammar.merge import Schema
from python_backend.grammar.pattern import UnreadablePattern, pattern_in_string
from python_backend.grammar.scalars import count

if TYPE_CHECKING:
    from python_backend.grammar.schema import Compiler

Member = tuple[str, bool]  # its grammar, and whether it must come


def object_(compiler: "Compiler", schema: Schema, where: str) -> str:
    """An object; '' where there is none."""
    declared = _declared(compiler, schema, where)
    least, most = count(compiler, schema, "minProperties", where) or 0, count(compiler, schema, "maxProperties", where)
    pairs = [
        (f'{text.quoted(text.written(name))} ":" " "? {compiler.value(part, f"{where}/properties/{name}")}', must)
        for name, (part, must) in declared.items()
    ]
    extra = _extra(compiler, schema, list(declared), where)
    if extra and most is not None and most <= sum(must for _, must in pairs):
        extra = ""
    bound = least > sum(must for _, must in pairs) or (most is not None and (extra or most < len(pairs)))
    if extra and pairs and bound:
        compiler.refuse(where, "has a number of properties beside some that are named", "Leave the number out")
    if extra and not pairs:
        members = _counted(compiler, extra, (least, most), where)
    else:
        members = _in_order(compiler, pairs, extra, (least, most))
    if members is None:
        return ""
    return " ".join(part for part in ('"{"', compiler.ws, members, compiler.ws if members else "", '"}"') if part)


def _declared(compiler: "Compiler", schema: Schema, where: str) -> dict[str, tuple[Any, bool]]:
    """Every property that has a name: its schema, and whether it must come."""
    named, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(named, dict) or not isinstance(required, list):
        compiler.invalid(where, "must have an object as properties and a list as required")
    if (unevaluated := schema.get("unevaluatedProperties")) not in (None, False, True):
        compiler.refuse(where, f"has unevaluatedProperties {unevaluated!s:.40}", "Use additionalProperties")
    if named and "propertyNames" in schema:
        compiler.refuse(where, "has propertyNames beside properties", "Leave propertyNames out")
    others = schema.get("additionalProperties", True)
    patterns = schema.get("patternProperties", {})
    found = {name: (part, name in required) for name, part in named.items() if part is not False or name in required}
    for name in required:
        if name not in found:
            if patterns or "propertyNames" in schema:
                compiler.refuse(
                    where, f"requires {name!s:.40}, which is none of its properties", "Add it to properties"
                )
            found[name] = (others, True)
    for pattern in patterns:
        if any(_matches(compiler, pattern, name, where) for name in found):
            compiler.refuse(where, f"has a property that fits the pattern {pattern!s:.40} too", "Name it in one place")
    return found


def _extra(compiler: "Compiler", schema: Schema, names: list[str], where: str) -> str:
    """A property of another name; '' where the schema does not ask for any."""
    others, patterns = schema.get("additionalProperties"), schema.get("patternProperties")
    if patterns:
        if len(patterns) > 1:
            compiler.refuse(where, "has more than one of patternProperties", "Use one pattern for all names")
        ((pattern, part),) = patterns.items()
        try:
            key = text.quoted(pattern_in_string(pattern, compiler.rules).body)
        except UnreadablePattern as error:
            compiler.refuse(where, f"has a pattern that {error.said}")
        return "" if part is False else f'{key} ":" " "? {compiler.value(part, f"{where}/patternProperties/{pattern}")}'
    asked = others is not None or "propertyNames" in schema or not names
    if not asked or others is False or (others is None and schema.get("unevaluatedProperties") is False):
        return ""
    if "propertyNames" in schema:
        key = _key(compiler, schema["propertyNames"], f"{where}/propertyNames")
    else:
        key = _other_than(compiler, names) if names else text.string(compiler.rules)
    part = compiler.value(True if others is None else others, f"{where}/additionalProperties")
    return f'{key} ":" " "? {part}'


def _key(compiler: "Compiler", schema: Any, where: str) -> str:
    if schema is True:
        return text.string(compiler.rules)
    return compiler.value({**compiler.flat(schema, where), "type": "string"}, where)


def _counted(compiler: "Compiler", extra: str, bounds: tuple[int, int | None], where: str) -> str | None:
    """So many properties of any name. One name may come twice, and counts once."""
    least, most = bounds
    if most == 0:
        return "" if not least else None
    if least > 1:
        compiler.refuse(where, "has minProperties of properties without names", "Name those that must come")
    if most is not None and most < least:
        return None
    more = repeated(f'"," {compiler.ws} {extra}', 0, None if most is None else most - 1)
    return f"{extra} {more}" if least else f"({extra} {more})?"


def _in_order(compiler: "Compiler", pairs: list[Member], extra: str, bounds: tuple[int, int | None]) -> str | None:
    """The named properties in their order, then any others; None where the bounds leave nothing."""
    least, most = bounds
    highest = len(pairs) if most is None else min(most, len(pairs))
    counted = least > 0 or highest < len(pairs)
    comma = f'"," {compiler.ws} '
    # After each property, by how many were written; where nothing is counted, whether any was.
    states = range(len(pairs) + 1) if counted else range(2)
    after: dict[int, str | None] = {}
    for written in states:
        more = repeated(comma + extra, 0, None) if extra else ""
        ending = more if written or not extra else f"({extra} {more})?"
        after[written] = ending if least <= written <= highest or not counted else None
    for pair, must in reversed(pairs):
        before: dict[int, str | None] = {}
        for written in states:
            ways = []
            following = after.get(written + 1 if counted else 1)
            if following is not None:
                ways.append(" ".join(part for part in (comma.strip() if written else "", pair, following) if part))
            skipped = after[written]
            if not must and skipped is not None:
                ways.append(skipped or '""')
            before[written] = compiler.rules.rule(either(ways), "o") if ways else None
        after = before
    return after[0]


def _other_than(compiler: "Compiler", names: list[str]) -> str:
    """A string that is none of these names, which could else come twice with another schema."""
    closing = '"\\""'
    rules = compiler.rules

    def from_(rest: list[str]) -> str:
        heads = sorted({name[0] for name in rest if name})
        ways = [] if "" in rest else [closing]
        taken: Ranges = [(ord(head), ord(head)) for head in heads]
        ways.append(f"{one_of(without(text.RAW, taken))} {text.free(rules, closing)}")
        ways += [f"{text.written(head)} {from_([name[1:] for name in rest if name[:1] == head])}" for head in heads]
        return rules.rule(either(ways), "k")

    return f'"\\"" {from_(names)}'


def _matches(compiler: "Compiler", pattern: Any, name: str, where: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except (re.error, TypeError):
        compiler.invalid(where, f"has the pattern {pattern!s:.40}, which is no expression")
