"""Strings and numbers of a schema."""

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from python_backend.grammar import number as numbers
from python_backend.grammar import text
from python_backend.grammar.formats import FORMATS, of_format
from python_backend.grammar.keywords import NUMBER_FORMATS
from python_backend.grammar.merge import Schema
from python_backend.grammar.pattern import UnreadablePattern, pattern_in_string

if TYPE_CHECKING:
    from python_backend.grammar.schema import Compiler

_HUGE = Decimal("1e30")


def string(compiler: "Compiler", schema: Schema, where: str) -> str:
    """A string within its quotes."""
    least, most = count(compiler, schema, "minLength", where) or 0, count(compiler, schema, "maxLength", where)
    if most is not None and most < least:
        return ""
    kept = [name for name in ("pattern", "format") if name in schema]
    if not kept:
        return text.string(compiler.rules, least, most)
    if len(kept) > 1:
        compiler.refuse(where, "has pattern beside format", "Say both in one pattern")
    body, shortest, longest = (_pattern if kept == ["pattern"] else _format)(compiler, schema, where)
    if shortest < least or (most is not None and (longest is None or longest > most)):
        compiler.refuse(
            where, f"has a length beside {kept[0]}", f"Say the length in a pattern, as in ^[a-z]{{{least},9}}$"
        )
    return text.quoted(body)


def number(compiler: "Compiler", schema: Schema, where: str, *, whole: bool) -> str:
    """A number; ``whole``: an integer."""
    if "format" in schema and schema["format"] not in NUMBER_FORMATS and "string" not in (schema.get("type") or ()):
        compiler.refuse(where, f"has format {schema['format']!s:.40} of a number", "Use minimum and maximum")
    low, low_open = _bound(compiler, schema, "Minimum", where)
    high, high_open = _bound(compiler, schema, "Maximum", where)
    of = _decimal(compiler, schema, "multipleOf", where)
    if of is not None and not (whole and (1 / of) == (1 / of).to_integral_value()):
        if of <= 0:
            compiler.invalid(where, "has a multipleOf that is not above 0")
        found = numbers.multiples(compiler.rules, of, low, high, whole=whole) if not (low_open or high_open) else None
        if found is None:
            compiler.refuse(
                where,
                "has multipleOf, which is kept up to 100 without bounds, as 0.1, 0.01, …, or between near bounds",
                "Leave it out and check the answer, or list the values with enum",
            )
        return found
    if low is None and high is None:
        return numbers.INTEGER if whole else numbers.NUMBER
    return numbers.between(low, high, whole=whole, low_open=low_open, high_open=high_open)


def count(compiler: "Compiler", schema: Schema, name: str, where: str) -> int | None:
    """A keyword that counts.

    Raises:
        InvalidRequest: it is no whole number of 0 or more.
    """
    value = schema.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != int(value):
        compiler.invalid(where, f"has a {name} that is no whole number of 0 or more")
    return int(value)


def _pattern(compiler: "Compiler", schema: Schema, where: str) -> tuple[str, int, int | None]:
    if not isinstance(schema["pattern"], str):
        compiler.invalid(where, "has a pattern that is no text")
    try:
        found = pattern_in_string(schema["pattern"], compiler.rules)
    except UnreadablePattern as error:
        compiler.refuse(where, f"has a pattern that {error.said}")
    return found.body, found.least, found.most


def _format(compiler: "Compiler", schema: Schema, where: str) -> tuple[str, int, int | None]:
    name = schema["format"]
    if not isinstance(name, str) or name not in FORMATS:
        compiler.refuse(where, f"has format {name!s:.40}", f"Use a pattern, or one of {', '.join(FORMATS)}")
    return of_format(name, compiler.rules)


def _bound(compiler: "Compiler", schema: Schema, end: str, where: str) -> tuple[Decimal | None, bool]:
    """The tighter bound at one end, Minimum or Maximum, and whether it is itself left out."""
    sign = 1 if end == "Minimum" else -1
    bound, beyond = _decimal(compiler, schema, end.lower(), where), schema.get(f"exclusive{end}")
    if isinstance(beyond, bool):  # before draft 6 it said so of the other
        return bound, beyond and bound is not None
    open_bound = _decimal(compiler, schema, f"exclusive{end}", where)
    found = [(value * sign, is_open) for value, is_open in ((bound, False), (open_bound, True)) if value is not None]
    if not found:
        return None, False
    value, is_open = max(found)
    if abs(value) < _HUGE:
        return value * sign, is_open
    if value > 0:
        compiler.refuse(where, f"has a {end.lower()} beyond 1e30")
    return None, False


def _decimal(compiler: "Compiler", schema: Schema, name: str, where: str) -> Decimal | None:
    value: Any = schema.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        compiler.invalid(where, f"has a {name} that is no number")
    return Decimal(repr(value))
