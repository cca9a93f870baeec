"""Schemas that must hold together, as one: what ``allOf`` says, and what stands beside ``$ref`` and ``anyOf``."""

from typing import Any

from contract.errors import InvalidRequest
from python_backend.grammar.keywords import ANNOTATIONS

Schema = dict[str, Any]

_HIGHEST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_LOWEST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


class CannotMerge(InvalidRequest):
    """Two schemas whose meaning together is not known here."""


def merged(one: Schema, other: Schema) -> Schema:
    """A schema that holds where both do.

    Raises:
        CannotMerge: naming the keyword.
    """
    both = dict(one)
    for name, value in other.items():
        both[name] = value if name not in one or one[name] == value else _together(name, one[name], value)
    _check_closed(one, other)
    return both


def _together(name: str, first: Any, second: Any) -> Any:
    match name:
        case _ if name in ANNOTATIONS:
            return second
        case "type":
            return _types(first, second)
        case "required":
            return list(dict.fromkeys([*first, *second]))
        case "properties":
            return {
                **first,
                **{key: _both(first[key], value) if key in first else value for key, value in second.items()},
            }
        case "enum":
            return [value for value in first if value in second]
        case "uniqueItems":
            return first or second
        case "items" | "additionalProperties":
            return _both(first, second)
        case "allOf":
            return [*first, *second]
        case _ if name in _HIGHEST and not isinstance(first, bool) and not isinstance(second, bool):
            return max(first, second)
        case _ if name in _LOWEST and not isinstance(first, bool) and not isinstance(second, bool):
            return min(first, second)
    raise CannotMerge(f"has two {name} that must hold together", fix="Write one schema that says both")


def _types(first: Any, second: Any) -> Any:
    one = set(first if isinstance(first, list) else [first])
    other = set(second if isinstance(second, list) else [second])
    if "number" in one:
        one.add("integer")
    if "number" in other:
        other.add("integer")
    found = one & other
    return sorted(found - {"integer"} if "number" in found else found)


def _both(first: Any, second: Any) -> Any:
    if first is True or second is True:
        return second if first is True else first
    if first is False or second is False:
        return False
    return {"allOf": [first, second]}


def _check_closed(one: Schema, other: Schema) -> None:
    """A schema that is closed to further properties forbids those that only the other one has."""
    for closed, adding in ((one, other), (other, one)):
        rest = closed.get("additionalProperties", True)
        new = adding.get("properties", {}).keys() - closed.get("properties", {}).keys()
        if rest not in (True, {}) and (new or "patternProperties" in adding or "patternProperties" in closed):
            raise CannotMerge(
                "has additionalProperties beside properties of another schema", fix="List all properties in one schema"
            )
