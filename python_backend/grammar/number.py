"""Numbers of JSON within bounds, digit by digit."""

from collections.abc import Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from python_backend.grammar.ebnf import Rules, either, literal

INTEGER = '"-"? ("0" | [1-9] [0-9]{0,30})'
NUMBER = f'{INTEGER} ("." [0-9]{{1,30}})? ([eE] [+\\-]? [0-9]{{1,2}})?'
_DIGITS = 16  # of a bounded number whose other bound is not given
_DECIMALS = 6  # of a bounded number, or as many as its bounds have
MOST_MULTIPLES = 256  # that are told one by one
MOST_STATES = 100  # of a divisor: its remainders are rules


def between(
    low: Decimal | None, high: Decimal | None, *, whole: bool, low_open: bool = False, high_open: bool = False
) -> str:
    """A number within these bounds; '' where there is none.

    Args:
        whole: integers only.
        low_open, high_open: the bound itself is left out.
    """
    bounds = [bound for bound in (low, high) if bound is not None]
    decimals = 0 if whole else max([_DECIMALS, *(-int(bound.as_tuple().exponent) for bound in bounds)])
    widest = Decimal(10) ** (_DIGITS + max([0, *(bound.adjusted() for bound in bounds if bound)]))
    least, most = -widest if low is None else low, widest if high is None else high
    ways = []
    for places in range(decimals + 1):
        scale = Decimal(10) ** places
        first = int((least * scale).to_integral_value(ROUND_CEILING))
        last = int((most * scale).to_integral_value(ROUND_FLOOR))
        first += low_open and first == least * scale
        last -= high_open and last == most * scale
        ways += [_pattern(digits, places) for digits in _digits(max(first, 0), last, places)]
        ways += ['"-" ' + _pattern(digits, places) for digits in _digits(max(-last, 1), -first, places)]
    return either(ways) if ways else ""


def multiples(rules: Rules, of: Decimal, low: Decimal | None, high: Decimal | None, *, whole: bool) -> str | None:
    """A multiple within bounds; '' where there is none, None where this is not made here."""
    if low is not None and high is not None:
        first, last = (low / of).to_integral_value(ROUND_CEILING), (high / of).to_integral_value(ROUND_FLOOR)
        if last - first < MOST_MULTIPLES:
            found = [of * step for step in range(int(first), int(last) + 1)]
            found = [each for each in found if not whole or each == each.to_integral_value()]
            return either(literal(f"{each:f}") for each in found) if found else ""
        return None
    if low not in (None, 0) or high is not None:
        return None
    sign = '"-"? ' if low is None else ""
    if of == of.to_integral_value():
        return sign + _whole_multiple(rules, int(of)) if of <= MOST_STATES else None
    places = -int(of.normalize().as_tuple().exponent)
    if of == Decimal(1).scaleb(-places) and not whole:  # 0.01: two decimals
        return f'{sign}("0" | [1-9] [0-9]{{0,15}}) ("." [0-9]{{1,{places}}})?'
    return None


def _whole_multiple(rules: Rules, of: int) -> str:
    """A multiple of an integer: a rule for each remainder of the digits so far."""
    names = [rules.name("m") for _ in range(of)]
    for remainder, name in enumerate(names):
        ways = [f'"{digit}" {names[(remainder * 10 + digit) % of]}' for digit in range(10)]
        rules.define(name, either([*ways, *(['""'] if remainder == 0 else [])]))
    return either(['"0"', *(f'"{digit}" {names[digit % of]}' for digit in range(1, 10))])


def _digits(low: int, high: int, places: int) -> Iterator[list[tuple[int, int]]]:
    """Patterns of digits, each from one to another, that are together the integers from low to high.

    Each has more digits than ``places``: a number below 1 begins with its 0.
    """
    if low > high:
        return
    for length in range(max(places + 1, len(str(low))), max(places + 1, len(str(high))) + 1):
        least = 0 if length == places + 1 else 10 ** (length - 1)
        first, last = max(low, least), min(high, 10**length - 1)
        if first <= last:
            yield from _of_one_length(f"{first:0{length}}", f"{last:0{length}}")


def _of_one_length(low: str, high: str) -> Iterator[list[tuple[int, int]]]:
    if not low:
        yield []
        return
    first, last = int(low[0]), int(high[0])
    rest = len(low) - 1
    if first == last:
        yield from ([(first, first), *more] for more in _of_one_length(low[1:], high[1:]))
        return
    free = [(0, 9)] * rest
    if low[1:] != "0" * rest:
        yield from ([(first, first), *more] for more in _of_one_length(low[1:], "9" * rest))
        first += 1
    whole = high[1:] == "9" * rest
    if first <= last - (not whole):
        yield [(first, last - (not whole)), *free]
    if not whole:
        yield from ([(last, last), *more] for more in _of_one_length("0" * rest, high[1:]))


def _pattern(digits: list[tuple[int, int]], places: int) -> str:
    """Digits with a point before the last ``places`` of them."""
    point = len(digits) - places
    before, after = _run(digits[:point]), _run(digits[point:])
    return f'{before} "." {after}' if places else before


def _run(digits: list[tuple[int, int]]) -> str:
    parts: list[str] = []
    at = 0
    while at < len(digits):
        low, high = digits[at]
        count = 1
        while at + count < len(digits) and digits[at + count] == (low, high):
            count += 1
        one = f'"{low}"' if low == high else f"[{low}-{high}]"
        parts.append(one if count == 1 else f"{one}{{{count}}}")
        at += count
    return " ".join(parts)
