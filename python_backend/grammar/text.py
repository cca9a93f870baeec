"""Strings of JSON: their characters, their lengths, what they may match, and the formats with a grammar here."""

from python_backend.grammar.ebnf import LAST, Ranges, Rules, either, literal, one_of, united, without

_SURROGATES = (0xD800, 0xDFFF)
_ESCAPED = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
RAW: Ranges = without([(0x20, LAST)], [(ord('"'),) * 2, (ord("\\"),) * 2, _SURROGATES])
_HEX = "[0-9a-fA-F]"
_ESCAPE = rf'(["\\/bfnrt] | "u" ([0-9a-cA-CefEF] {_HEX} | [dD] [0-7]) {_HEX} {_HEX})'
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
    if most == 0:
        return '"\\""'
    if most <= _CHAIN:
        return rules.rule(either(['"\\""', *character(rules, _up_to(rules, most - 1))]), "t")
    size = _BLOCK
    while size * _BLOCK <= most:
        size *= _BLOCK
    rest = _up_to(rules, most % size)
    for _ in range(most // size):
        rest = rules.rule(either([f"{_block(rules, size)} {rest}", _up_to(rules, size - 1)]), "t")
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


_DAY31 = '("0" [13578] | "1" [02]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])'
_DAY30 = '("0" [469] | "11") "-" ("0" [1-9] | [12] [0-9] | "30")'
_DAY28 = '"02-" ("0" [1-9] | "1" [0-9] | "2" [0-8])'
_LEAP = '([0-9] [0-9] ("0" [48] | [2468] [048] | [13579] [26]) | ("0" [48] | [2468] [048] | [13579] [26]) "00")'
_DATE = f'([0-9] [0-9] [0-9] [0-9] "-" ({_DAY31} | {_DAY30} | {_DAY28}) | {_LEAP} "-02-29")'
_CLOCK = '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9]'
_TIME = f'{_CLOCK} ("." [0-9]{{1,6}})? ("Z" | [+\\-] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])'
_BYTE = '("25" [0-5] | "2" [0-4] [0-9] | "1" [0-9] [0-9] | [1-9]? [0-9])'
_GROUP = f"({_HEX}){{1,4}}"
_LABEL = '[a-zA-Z0-9] ("-"? [a-zA-Z0-9]){0,20}'
_HOST = f'{_LABEL} ("." {_LABEL}){{0,3}}'
_ATOM = "[a-zA-Z0-9_+\\-]{1,20}"
_PATH = "[a-zA-Z0-9._~\\-]"

# format → (its grammar between the quotes, least and most characters)
FORMATS: dict[str, tuple[str, int, int]] = {
    "date": (_DATE, 10, 10),
    "time": (_TIME, 9, 21),
    "date-time": (f'{_DATE} "T" {_TIME}', 20, 32),
    "duration": (
        '"P" (([0-9]{1,4} "D" | [0-9]{1,4} "M" ([0-9]{1,4} "D")? | [0-9]{1,4} "Y" ([0-9]{1,4} "M" ([0-9]{1,4} "D")?)?)'
        ' ("T" [0-9]{1,4} ("S" | "M" | "H"))? | "T" [0-9]{1,4} ("S" | "M" | "H") | [0-9]{1,4} "W")',
        3,
        22,
    ),
    "uuid": (' "-" '.join(f"({_HEX}){{{digits}}}" for digits in (8, 4, 4, 4, 12)), 36, 36),
    "ipv4": (f'{_BYTE} ("." {_BYTE}){{3}}', 7, 15),
    "ipv6": (f'{_GROUP} (":" {_GROUP}){{7}}', 15, 39),
    "email": (f'{_ATOM} ("." {_ATOM}){{0,2}} "@" {_HOST}', 3, 250),
    "hostname": (_HOST, 1, 167),
    "uri": (
        f'("http" "s"? "://") {_HOST} ("/" {_PATH}{{0,40}}){{0,6}} ("?" {_PATH}{{1,40}} "=" {_PATH}{{0,40}})?',
        8,
        600,
    ),
}
