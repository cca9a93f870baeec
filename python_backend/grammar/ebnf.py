"""EBNF as xgrammar reads it.

xgrammar writes grammars out and reads them again, with escapes like ``\\xdf`` for characters below U+0100; reading one,
it takes in all the hexadecimal digits that follow. So no such digit follows one within a literal or a class.
"""

import re
from collections.abc import Callable, Iterable

from contract.errors import UnsupportedByEngine

Ranges = list[tuple[int, int]]  # of code points, both ends included; sorted and apart

LAST = 0x10FFFF
_MOST_TEXT = 500_000  # characters: more takes the engines seconds to compile
_HEX_ESCAPED = re.compile(r"[\x7f-\xff](?=[0-9a-fA-F])")


class TooLarge(UnsupportedByEngine):
    """A grammar that grows beyond what is compiled."""

    def __init__(self) -> None:
        super().__init__("# is too large", field="guided_decoding_guide", fix="Ask for less, or in several requests")


class Rules:
    """The rules of one grammar. Equal bodies share a rule. Raises TooLarge where they grow."""

    def __init__(self) -> None:
        self._bodies: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._size = 0
        self._made: dict[tuple[str, int], str] = {}

    def name(self, hint: str = "r") -> str:
        """A name for a rule that is defined later."""
        name = f"{hint}{len(self._bodies)}"
        self._bodies[name] = ""
        return name

    def has(self, name: str) -> bool:
        """Whether a rule of this name is there."""
        return name in self._bodies

    def define(self, name: str, body: str) -> None:
        """Give a named rule its body."""
        self.grow(len(body))
        self._bodies[name] = body

    def grow(self, characters: int) -> None:
        """Count what is written."""
        self._size += characters
        if self._size > _MOST_TEXT:
            raise TooLarge

    def rule(self, body: str, hint: str = "r") -> str:
        """The name of the rule with this body."""
        if body not in self._names:
            self._names[body] = self.name(hint)
            self.define(self._names[body], body)
        return self._names[body]

    def once(self, what: str, number: int, make: Callable[[], str]) -> str:
        """What ``make`` made the first time that this was asked for."""
        if (what, number) not in self._made:
            self._made[what, number] = make()
        return self._made[what, number]

    def text(self, root: str) -> str:
        """The whole grammar; ``root`` is what the answer is."""
        lines = [f"root ::= {root}", *(f"{name} ::= {body}" for name, body in self._bodies.items())]
        return "\n".join(lines) + "\n"


def literal(text: str) -> str:
    """Exactly this text."""
    parts = _HEX_ESCAPED.sub(lambda found: found[0] + "\0", text).split("\0")
    return " ".join('"' + "".join(_escaped(ord(character), '"\\') for character in part) + '"' for part in parts)


def one_of(ranges: Ranges) -> str:
    """One character of these."""
    if not ranges:
        raise ValueError("no character")
    return "[" + "".join(_range(low, high) for low, high in ranges) + "]"


def either(bodies: Iterable[str]) -> str:
    """One of these."""
    found = list(dict.fromkeys(bodies))
    return found[0] if len(found) == 1 else "(" + " | ".join(body or '""' for body in found) + ")"


def repeated(body: str, least: int, most: int | None) -> str:
    """So many of these; ``most`` None: any number."""
    if most == 0:
        return '""'
    if (least, most) == (1, 1):
        return body
    count = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((least, most))
    if count is None:
        count = f"{{{least}}}" if least == most else f"{{{least},{'' if most is None else most}}}"
    return f"({body}){count}"


def united(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Sorted and apart."""
    found: Ranges = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(high, found[-1][1])
        else:
            found.append((low, high))
    return found


def without(ranges: Ranges, taken: Ranges) -> Ranges:
    """What is left."""
    left: Ranges = []
    gone = united(taken)
    for low, high in ranges:
        at = low
        for gone_low, gone_high in gone:
            if gone_high < at or gone_low > high:
                continue
            if gone_low > at:
                left.append((at, gone_low - 1))
            at = gone_high + 1
        if at <= high:
            left.append((at, high))
    return left


def _range(low: int, high: int) -> str:
    first = _escaped(low, "")
    return first if low == high else f"{first}-{_escaped(high, '')}"


def _escaped(code: int, quoted: str) -> str:
    """A character of a literal, or of a class where ``quoted`` is empty."""
    character = chr(code)
    if quoted and 32 <= code < 127:
        return f"\\{character}" if character in quoted else character
    if character.isascii() and character.isalnum():
        return character
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
