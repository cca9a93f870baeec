"""How much a body may hold, counted before anything is made of it: its bytes say little of the time that it takes."""

from collections.abc import Mapping
from typing import Any

from gateway.errors import refuse

MOST_VALUES = 2**15  # an agent's conversation of a thousand turns, with its tools, has half as many
_LIGHT = 32  # numbers in a list, token ids mostly, that weigh as one value
_NUMBERS = {int, float}


def check_weight(body: Mapping[str, Any]) -> None:
    """Refuse what would take long to understand. Looks at no more than is allowed, but for lists of numbers.

    Raises:
        Refused: with the name of the field that has too much.
    """
    left = MOST_VALUES
    for name, value in body.items():
        left -= _weight(value, left)
        if left < 0:
            message = f"the request has more than {MOST_VALUES} values up to here; shorten it, or send it in parts"
            raise refuse(message, param=name if name.isidentifier() else None, code="request_too_large")


def _weight(value: Any, most: int) -> int:
    """The values inside a value, itself left out; counted up to ``most``."""
    weight = 0
    open_ = [value]
    while open_ and weight <= most:
        value = open_.pop()
        if isinstance(value, dict):
            weight += len(value)
            inner = list(value.values())
        elif isinstance(value, list):
            light = _NUMBERS.issuperset(map(type, value))
            weight += len(value) // _LIGHT if light else len(value)
            inner = [] if light else value
        else:
            continue
        if weight <= most:
            open_ += [each for each in inner if isinstance(each, dict | list)]
    return weight
