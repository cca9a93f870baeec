"""Strings of JSON: their characters, their lengths, and what they hold."""

from python_backend.grammar.ebnf import LAST, Ranges, Rules, either, literal, one_of, united, without

_SURROGATES = (0xD800, 0xDFFF)
_ESCAPED = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
RAW: Ranges = without([(0x20, LAST)], [(ord('"'),) * 2, (ord("\\"),) * 2, _SURROGATES])
HEX = "[0-9a-fA-F]"
_ESCAPE = rf'(["\\/bfnrt] | "u" ([0-9a-cA-CefEF] {HEX} | [dD] [0-7]) {HEX} {HEX})'
_CHAIN = 48  # characters that are counted one by one: each costs the compiler a look at the whole vocabulary
_BLOCK = 16  # beyond, they are counted in blocks, which cost less to compile and more to follow


def character(rules: Rules, then: str = "") -> list[str]:
    """The ways to write any character but half of a surrogate pair, each with what comes after it."""
    escape = rules.rule(_ESCAPE, "e")
    return [" ".join(part for part in way if part) for way in ((one_of(RAW), then), ('"\\\\"', escape, then))]


def string(rules: Rules, least: int = 0, most: int | None = None) -> str:
    """A string of so many characters."""
    rest = free(rules, '"\\""') if most is None else _up_to(rules, most - least)
    return " ".join(['"\\""', *_exactly(rules, least), rest])


def free(rules: Rules, then: str = '""') -> str:
    """Any characters, and what comes after them. A rule that refers to itself is what xgrammar follows fastest."""
    name = "text" if then == '""' else "string"
    if not rules.has(name):
        rules.define(name, "")
        rules.define(name, either([then, *character(rules, name)]))
    return name


def _up_to(rules: Rules, most: int) -> str:
    """At most so many characters, and the closing quote."""
    return rules.once("up to", most, lambda: _make_up_to(rules, most))


def _make_up_to(rules: Rules, most: int) -> str:
    if most == 0:
        return '"\\""'
    if most <= _CHAIN:
        return rules.rule(either(['"\\""', *character(rules, _up_to(rules, most - 1))]), "t")
    size = _BLOCK
    while size * _BLOCK <= most:
        size *= _BLOCK
    rest, block, fewer = _up_to(rules, most % size), _block(rules, size), _up_to(rules, size - 1)
    for _ in range(most // size):
        rest = rules.rule(either([f"{block} {rest}", fewer]), "t")
    return rest


def _exactly(rules: Rules, number: int) -> list[str]:
    """So many characters, in parts."""
    parts: list[str] = []
    size = _BLOCK
    while size * _BLOCK <= number:
        size *= _BLOCK
    while size >= _BLOCK:
        parts += [_block(rules, size)] * (number // size)
        number %= size
        size //= _BLOCK
    return [*parts, *[rules.rule(either(character(rules)), "c")] * number]


def _block(rules: Rules, size: int) -> str:
    """Exactly so many characters, a power of :data:`_BLOCK`."""
    return rules.once("block", size, lambda: _make_block(rules, size))


def _make_block(rules: Rules, size: int) -> str:
    if size > _BLOCK:
        return rules.rule(" ".join([_block(rules, size // _BLOCK)] * _BLOCK), "b")
    body = ""
    for _ in range(size):
        body = rules.rule(either(character(rules, body)), "b")
    return body


def quoted(body: str) -> str:
    """A string around what stands between its quotes."""
    return f'"\\"" {body} "\\""'


def character_of(ranges: Ranges) -> str:
    """One of these characters, as JSON writes it; '' where JSON cannot."""
    raw = without(united(ranges), without([(0, LAST)], RAW))
    ways = [one_of(raw)] if raw else []
    ways += [literal(_ESCAPED[each]) for each in _ESCAPED if any(low <= ord(each) <= high for low, high in ranges)]
    return either(ways) if ways else ""


def written(text: str) -> str:
    """Exactly this text between the quotes of a string."""
    return literal("".join(_ESCAPED.get(each, each if ord(each) >= 32 else f"\\u{ord(each):04x}") for each in text))
