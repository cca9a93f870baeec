"""Regular expressions as grammars of what a string of JSON holds."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from contract.errors import InvalidRequest
from python_backend.grammar.ebnf import LAST, Ranges, Rules, either, one_of, repeated, united, without
from python_backend.grammar.text import character_of, free

_parser: Any = re._parser
_WORD: Ranges = [(48, 57), (65, 90), (95, 95), (97, 122)]
_SPACE: Ranges = [(9, 13), (32, 32), (0xA0, 0xA0), (0x2028, 0x2029), (0xFEFF, 0xFEFF)]
_DIGIT: Ranges = [(48, 57)]
_LINE_ENDS: Ranges = [(10, 10), (13, 13), (0x2028, 0x2029)]
_ANY: Ranges = without([(0, LAST)], [(0xD800, 0xDFFF)])
_KINDS = {"DIGIT": _DIGIT, "SPACE": _SPACE, "WORD": _WORD}
_REFUSED = {
    "ASSERT": "looks ahead or behind",
    "ASSERT_NOT": "looks ahead or behind",
    "GROUPREF": "refers back to a group",
    "GROUPREF_EXISTS": "depends on a group",
    "AT": "has ^, $ or \\b in its middle",
}
_MOST_NESTED = 40
_MOST_TEXT = 4000  # characters of an expression


class UnreadablePattern(InvalidRequest):
    """An expression that cannot be a grammar."""

    def __init__(self, message: str) -> None:
        super().__init__(message, field="guided_decoding_guide")
        self.said = message


@dataclass(frozen=True)
class Pattern:
    """A grammar, and how many characters it takes."""

    body: str
    least: int
    most: int | None


def pattern_in_string(expression: str, rules: Rules) -> Pattern:
    """What a string of JSON must hold to match, between its quotes. As JSON Schema has it, unanchored ends are free.

    Raises:
        UnreadablePattern: saying what of it cannot be a grammar.
    """
    return _Reader(rules, character_of, free(rules)).read(expression)


def whole_text(expression: str, rules: Rules) -> str:
    """A text that matches from its beginning to its end; ``^`` and ``$`` there change nothing.

    Raises:
        UnreadablePattern: saying what of it cannot be a grammar.
    """
    return _Reader(rules, lambda ranges: one_of(ranges) if ranges else "", "").read(expression).body


class _Reader:
    """Reads one expression.

    Args:
        character: one character of these ranges; '' where there is no way to write any.
        free: what may stand before and after what is not anchored.
    """

    def __init__(self, rules: Rules, character: Callable[[Ranges], str], free: str) -> None:
        self._rules = rules
        self._character = character
        self._free = free

    def read(self, expression: str) -> Pattern:
        """The grammar."""
        if len(expression) > _MOST_TEXT:
            raise UnreadablePattern(f"has more than {_MOST_TEXT} characters")
        try:
            parsed = _parser.parse(expression.replace(r"\/", "/"))
        except (re.error, RecursionError, OverflowError) as error:
            raise UnreadablePattern(f"is no expression that is known here: {error}") from None
        if parsed.state.flags & re.IGNORECASE:
            raise UnreadablePattern("ignores case; write both cases, as in [aA]")
        anchored: list[bool] = []
        body = self._ends(list(parsed), anchored, 0)
        least, most = parsed.getwidth()
        if not all(anchored):
            most = None
        return Pattern(body, least, None if most is None or most >= _parser.MAXREPEAT else most)

    def _ends(
        self, items: list[Any], anchored: list[bool], depth: int, *, begins: bool = False, ends: bool = False
    ) -> str:
        """A whole alternative, which may be anchored at its ends."""
        if items and _is_at(items[0], "AT_BEGINNING"):
            begins, items = True, items[1:]
        if items and _is_at(items[-1], "AT_END"):
            ends, items = True, items[:-1]
        match items:
            case [(op, (_, _, _, inner))] if str(op) == "SUBPATTERN":
                return self._ends(list(inner), anchored, depth + 1, begins=begins, ends=ends)
            case [(op, (_, branches))] if str(op) == "BRANCH":
                return either(
                    self._ends(list(branch), anchored, depth + 1, begins=begins, ends=ends) for branch in branches
                )
        anchored += [begins, ends]
        body = self._sequence(items, depth + 1)
        return " ".join(part for part in ("" if begins else self._free, body, "" if ends else self._free) if part)

    def _sequence(self, items: Any, depth: int) -> str:
        if depth > _MOST_NESTED:
            raise UnreadablePattern(f"nests deeper than {_MOST_NESTED}")
        return " ".join(self._item(str(op), value, depth) for op, value in items) or '""'

    def _item(self, op: str, value: Any, depth: int) -> str:
        match op:
            case "LITERAL":
                return self._one([(value, value)])
            case "NOT_LITERAL":
                return self._one(without(_ANY, [(value, value)]))
            case "ANY":
                return self._one(without(_ANY, _LINE_ENDS))
            case "IN":
                return self._one(_members(value))
            case "BRANCH":
                return either(self._sequence(branch, depth + 1) for branch in value[1])
            case "SUBPATTERN":
                return f"({self._sequence(value[3], depth + 1)})"
            case "ATOMIC_GROUP":
                return f"({self._sequence(value, depth + 1)})"
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                least, most, inner = value
                return self._repeated(
                    self._sequence(inner, depth + 1), int(least), None if most == _parser.MAXREPEAT else int(most)
                )
        raise UnreadablePattern(f"{_REFUSED.get(op, f'has {op.lower()}')}, which no grammar can")

    def _repeated(self, body: str, least: int, most: int | None) -> str:
        if most is not None or body.startswith("["):
            return repeated(body, least, most)
        name = self._rules.name("p")
        self._rules.define(name, either(['""', f"{body} {name}"]))
        return " ".join([body] * least + [name])

    def _one(self, ranges: Ranges) -> str:
        written = self._character(ranges)
        if not written:
            raise UnreadablePattern("has a character that JSON cannot write")
        return written


def _is_at(item: Any, where: str) -> bool:
    return str(item[0]) == "AT" and str(item[1]) in (where, f"{where}_STRING")


def _members(items: Any) -> Ranges:
    """The characters of a class."""
    found: Ranges = []
    negated = False
    for op, value in items:
        match str(op):
            case "NEGATE":
                negated = True
            case "LITERAL":
                found.append((value, value))
            case "RANGE":
                found.append(value)
            case _:
                kind = str(value).removeprefix("CATEGORY_")
                known = _KINDS[kind.removeprefix("NOT_")]
                found += without(_ANY, known) if kind.startswith("NOT_") else known
    return without(_ANY, found) if negated else without(united(found), [(0xD800, 0xDFFF)])
