"""Answers under a JSON schema: how many can be read and are what the schema says."""

import json
from typing import Any

from contract.errors import ConchError
from loadtests.compare.doors import Absent, Door


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


# Every text and list has an end: a small model would go on to the last token.
_WORD = {"type": "string", "maxLength": 16}
_YES_OR_NO = {"type": "boolean"}
_PERCENT = {"type": "integer", "minimum": 0, "maximum": 100}
_WORDS = {"type": "array", "items": _WORD, "minItems": 1, "maxItems": 3}
SCHEMAS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("Name a harbour town and its country.", _object(town=_WORD, country=_WORD)),
    ("Is the tide high in the morning? How sure are you?", _object(high=_YES_OR_NO, sure=_PERCENT)),
    ("Which wind is it: north, east, south or west?", _object(wind={"enum": ["north", "east", "south", "west"]})),
    ("List what a sailor takes along.", _object(things=_WORDS)),
    ("Describe a boat.", _object(name=_WORD, crew=_PERCENT, engine=_object(kind=_WORD, works=_YES_OR_NO))),
    (
        "Give two ports and the days between them.",
        _object(ports={**_WORDS, "minItems": 2, "maxItems": 2}, days=_PERCENT),
    ),
    ("Is there a lighthouse? Name it if you can.", _object(lighthouse={"anyOf": [_WORD, {"type": "null"}]})),
    (
        "List two catches of fish with their weight.",
        _object(catches={"type": "array", "items": _object(fish=_WORD, kilos=_PERCENT), "minItems": 1, "maxItems": 2}),
    ),
)


def structured(door: Door, count: int) -> dict[str, Any]:
    """The first so many questions of the set; a refusal counts as no answer, with its reason.

    Raises:
        Absent: this way knows no schemas, or nothing here can check them.
    """
    try:
        import jsonschema_rs
    except ImportError:  # on a GPU machine that has only what was carried there
        raise Absent("jsonschema-rs is not installed here") from None
    valid, faults = 0, []
    for question, schema in SCHEMAS[:count]:
        try:
            said = door.chat(question, schema)
            jsonschema_rs.validate(schema, json.loads(said))
        except Absent:
            raise
        except (ConchError, jsonschema_rs.ValidationError, ValueError) as fault:
            faults.append(f"{question} {str(fault).splitlines()[0][:200]}")
        else:
            valid += 1
    return {"asked": min(count, len(SCHEMAS)), "valid": valid, "faults": faults}
