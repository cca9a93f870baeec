"""Whether the alternatives of a ``oneOf`` exclude each other, as far as that can be seen without an answer."""

import json
from typing import Any

from python_backend.grammar.keywords import OF_TYPE, TYPES
from python_backend.grammar.merge import Schema


def excludes(written: Schema, other: Schema) -> bool:
    """True where no value that is written for one schema fits the other.

    Args:
        written: resolved; objects made for it have the properties that it names, and no others.
        other: resolved.
    """
    values, others = _values(written), _values(other)
    if values is not None and others is not None:
        return not values & others
    types = _types(written)
    if not types & _types(other):
        return True
    if values is not None or types != {"object"}:
        return False
    return _object_excludes(written, other)


def _object_excludes(written: Schema, other: Schema) -> bool:
    names, always = written.get("properties", {}), set(written.get("required", ()))
    known = other.get("properties", {})
    closed = written.get("additionalProperties", False) is False and "patternProperties" not in written
    if closed and set(other.get("required", ())) - names.keys():
        return True
    if other.get("additionalProperties", True) is False and always - known.keys() and "patternProperties" not in other:
        return True
    return any(
        isinstance(names.get(name), dict) and isinstance(known.get(name), dict) and excludes(names[name], known[name])
        for name in always
    )


def _values(schema: Schema) -> set[str] | None:
    """Every value of a schema, as JSON; None where they are not listed."""
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    return None if listed is None else {_text_of(value) for value in listed}


def _text_of(value: Any) -> str:
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value, sort_keys=True)


def _types(schema: Schema) -> set[str]:
    given: Any = schema.get("type")
    if given is None:
        spoken = {OF_TYPE[name] for name in schema if name in OF_TYPE}
        found = spoken or set(TYPES)
        if values := _values(schema):
            found = {_type_of(json.loads(value)) for value in values}
    else:
        found = set(given) if isinstance(given, list) else {given}
    return {"number" if name == "integer" else name for name in found}


def _type_of(value: Any) -> str:
    kinds: dict[type, str] = {bool: "boolean", str: "string", list: "array", dict: "object", type(None): "null"}
    return kinds.get(type(value), "number")
