"""What goes with what among the fields of a body, as JSON Schema says it: the published schema is no looser than we."""

from typing import Any

Rule = dict[str, Any]


def either(*rules: Rule) -> Rule:
    """At least one of these holds."""
    return {"anyOf": list(rules)}


def is_one_of(name: str, *values: Any) -> Rule:
    """The field has one of these values, or is not given."""
    return {"properties": {name: {"enum": [*values, None]}}}


def has(name: str, **schema: Any) -> Rule:
    """The field is given, and is of this schema."""
    return {"required": [name], "properties": {name: schema}}


def both(*rules: Rule) -> Rule:
    """Every one of these fields is as its rule says."""
    return {
        "required": [name for rule in rules for name in rule.get("required", ())],
        "properties": {name: schema for rule in rules for name, schema in rule["properties"].items()},
    }


def all_of(*rules: Rule) -> Rule:
    """Every one of these holds; for ``json_schema_extra``."""
    return {"allOf": list(rules)}
