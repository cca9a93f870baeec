"""The formats of strings that have a grammar here."""

from python_backend.grammar.ebnf import Rules
from python_backend.grammar.text import HEX

_DAY31 = '("0" [13578] | "1" [02]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])'
_DAY30 = '("0" [469] | "11") "-" ("0" [1-9] | [12] [0-9] | "30")'
_DAY28 = '"02-" ("0" [1-9] | "1" [0-9] | "2" [0-8])'
_LEAP = '([0-9] [0-9] ("0" [48] | [2468] [048] | [13579] [26]) | ("0" [48] | [2468] [048] | [13579] [26]) "00")'
_DATE = f'([0-9] [0-9] [0-9] [0-9] "-" ({_DAY31} | {_DAY30} | {_DAY28}) | {_LEAP} "-02-29")'
_CLOCK = '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9]'
_TIME = f'{_CLOCK} ("." [0-9]{{1,6}})? ("Z" | [+\\-] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])'
_BYTE = '("25" [0-5] | "2" [0-4] [0-9] | "1" [0-9] [0-9] | [1-9]? [0-9])'
_GROUP = f"({HEX}){{1,4}}"
# Rules that formats share: where a part stands twice, it is compiled once.
_PARTS = {
    "label": '[a-zA-Z0-9] ("-"? [a-zA-Z0-9]){0,20}',
    "host": 'label ("." label){0,3}',
    "atom": "[a-zA-Z0-9_+\\-]{1,20}",
    "segment": "[a-zA-Z0-9._~\\-]{0,32}",
}

# format → (its grammar between the quotes, least and most characters)
_FORMATS: dict[str, tuple[str, int, int]] = {
    "date": (_DATE, 10, 10),
    "time": (_TIME, 9, 21),
    "date-time": (f'{_DATE} "T" {_TIME}', 20, 32),
    "duration": (
        '"P" (([0-9]{1,4} "D" | [0-9]{1,4} "M" ([0-9]{1,4} "D")? | [0-9]{1,4} "Y" ([0-9]{1,4} "M" ([0-9]{1,4} "D")?)?)'
        ' ("T" [0-9]{1,4} ("S" | "M" | "H"))? | "T" [0-9]{1,4} ("S" | "M" | "H") | [0-9]{1,4} "W")',
        3,
        22,
    ),
    "uuid": (' "-" '.join(f"({HEX}){{{digits}}}" for digits in (8, 4, 4, 4, 12)), 36, 36),
    "ipv4": (f'{_BYTE} ("." {_BYTE}){{3}}', 7, 15),
    "ipv6": (f'{_GROUP} (":" {_GROUP}){{7}}', 15, 39),
    "email": ('atom ("." atom){0,2} "@" host', 3, 230),
    "hostname": ("host", 1, 167),
    "uri": ('"http" "s"? "://" host ("/" segment){0,6} ("?" segment "=" segment)?', 8, 440),
}
FORMATS = tuple(_FORMATS)


def of_format(name: str, rules: Rules) -> tuple[str, int, int]:
    """What stands between the quotes of a string of this format, its least and its most characters."""
    for part, body in _PARTS.items():
        rules.define(part, body)
    return _FORMATS[name]
