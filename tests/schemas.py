"""Schemas that answers are guided by: sixty that are kept, and what is refused by name."""

from typing import Any


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _deep(levels: int) -> dict[str, Any]:
    return {"type": "array", "items": _deep(levels - 1)} if levels else {}


SHORT: dict[str, Any] = {"type": "string", "maxLength": 12}
_DIGIT: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 9}
_RANGE: dict[str, Any] = {"type": "number", "minimum": -0.123456, "maximum": 1234.56789}
_TAGGED = [
    {"type": "object", "properties": {"kind": {"const": kind}, size: {"type": "integer"}}, "required": ["kind", size]}
    for kind, size in (("Boot", "Länge"), ("Zug", "Wagen"))
]

# ruff: noqa: E501
KEPT: dict[str, Any] = {
    "umlaut key": _object(größe=_DIGIT),
    "umlaut value": _object(art={"enum": ["Äpfel", "süße Beeren", "éàü", "ßa", "øbc"]}),
    "other scripts": _object(日本={"enum": ["東京", "大阪"]}, город={"const": "Мурманск"}, מקום={"enum": ["ים", "נהר"]}),
    "emoji": _object(mood={"enum": ["🙂", "🙁", "👩‍👧"]}, **{"🚀": {"type": "boolean"}}),
    "quotes and controls": _object(**{'a"b': _DIGIT, "back\\slash": _DIGIT, "tab\t": _DIGIT, "nul\u0001": _DIGIT}),
    "hex after latin": _object(**{"ÿ0": _DIGIT, "\x7fa": _DIGIT, "éfé": _DIGIT, "ßßdead": {"const": "ößäbé0"}}),
    "umlaut pattern": _object(ort={"type": "string", "pattern": "^[äöüß]{2}[éa-f]{1,3}$"}),
    "unanchored pattern": _object(code={"type": "string", "pattern": "x[0-9]{2}"}),
    "anchored once": _object(code={"type": "string", "pattern": "^ab?[^c]"}),
    "alternatives in a pattern": _object(code={"type": "string", "pattern": "^(rot|grün)$|^(blau)$"}),
    "pattern of quotes": _object(code={"type": "string", "pattern": '^"\\\\{1,2}[^a]"$'}),
    "pattern and length": _object(code={"type": "string", "pattern": "^[a-z]{3,5}$", "minLength": 2, "maxLength": 8}),
    "short text": SHORT,
    "exact length": {"type": "string", "minLength": 5, "maxLength": 5},
    "longer text": {"type": "string", "minLength": 20, "maxLength": 90},
    "long limit": _object(text={"type": "string", "maxLength": 2000}),
    "date": _object(am={"type": "string", "format": "date"}),
    "times": _object(um={"type": "string", "format": "time"}, wann={"type": "string", "format": "date-time"}),
    "duration": _object(dauer={"type": "string", "format": "duration"}),
    "uuid with a length": _object(id={"type": "string", "format": "uuid", "minLength": 36, "maxLength": 36}),
    "addresses": _object(v4={"type": "string", "format": "ipv4"}, v6={"type": "string", "format": "ipv6"}),
    "mail": _object(an={"type": "string", "format": "email"}),
    "host": _object(host={"type": "string", "format": "hostname"}),
    "uri": _object(ort={"type": "string", "format": "uri"}),
    "integer range": _object(n={"type": "integer", "minimum": -17, "maximum": 1203}),
    "exclusive range": _object(n={"type": "integer", "exclusiveMinimum": 9, "exclusiveMaximum": 12}),
    "draft 4 range": {"$schema": "http://json-schema.org/draft-04/schema#", **_object(n=_DIGIT | {"exclusiveMinimum": True})},
    "number range": _object(x={"type": "number", "minimum": -0.25, "exclusiveMaximum": 1.5}),
    "number above": _object(x={"type": "number", "exclusiveMinimum": 0}),
    "multiple of 7": _object(n={"type": "integer", "multipleOf": 7}),
    "multiple in a range": _object(n={"type": "integer", "minimum": 10, "maximum": 900, "multipleOf": 45}),
    "cents": _object(preis={"type": "number", "minimum": 0, "maximum": 2, "multipleOf": 0.25}),
    "booleans and null": _object(a={"type": "boolean"}, b={"type": "null"}),
    "type list": {"type": ["integer", "null", "string"], "maxLength": 3, "minimum": 1, "maximum": 5},
    "enum of anything": {"enum": [1, 2.5, None, True, "ä", [1, "é"], {"ü": 1}]},
    "enum with a type": {"type": "string", "enum": ["a", "ß", 3]},
    "optional properties": {"type": "object", "properties": {"a": _DIGIT, "ß": _DIGIT, "c": _DIGIT}, "required": ["ß"]},
    "count of properties": {"type": "object", "properties": dict.fromkeys("abcd", _DIGIT), "minProperties": 2, "maxProperties": 3},
    "a map": {"type": "object", "additionalProperties": _DIGIT, "minProperties": 1, "maxProperties": 3},
    "named and others": {"type": "object", "properties": {"ab": _DIGIT, "abc": _DIGIT}, "required": ["ab"], "additionalProperties": {"type": "null"}},
    "pattern properties": {"type": "object", "patternProperties": {"^[é-ü]{1,2}$": _DIGIT}, "additionalProperties": False, "maxProperties": 2},
    "property names": {"type": "object", "propertyNames": {"enum": ["nö", "jä"]}, "additionalProperties": _DIGIT, "maxProperties": 2},
    "required without a schema": {"type": "object", "required": ["ü"], "additionalProperties": _DIGIT},
    "nested": _object(a=_object(b=_object(ç=_DIGIT))),
    "array": {"type": "array", "items": _DIGIT, "minItems": 2, "maxItems": 4},
    "empty array": {"type": "array", "maxItems": 0},
    "tuple": {"type": "array", "prefixItems": [_DIGIT, SHORT], "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
    "closed tuple": {"type": "array", "prefixItems": [_DIGIT, {"const": "ä"}], "items": False, "minItems": 2},
    "unique items": {"type": "array", "items": {"enum": ["rot", "grün", "blau", "weiß"]}, "uniqueItems": True, "minItems": 2, "maxItems": 3},
    "unique booleans": {"type": "array", "items": {"type": "boolean"}, "uniqueItems": True},
    "anyOf": {"anyOf": [_DIGIT, SHORT, {"type": "null"}]},
    "anyOf beside properties": {"type": "object", "properties": {"a": _DIGIT}, "anyOf": [{"required": ["a"]}, {"properties": {"b": _DIGIT}, "required": ["b"]}]},
    "oneOf by type": {"oneOf": [{"type": "integer", "minimum": 3, "maximum": 4}, {"type": "string", "enum": ["é"]}]},
    "oneOf by a const": {"oneOf": _TAGGED},
    "oneOf by what is required": {"oneOf": [_object(a=_DIGIT), _object(b=_DIGIT)]},
    "allOf": {"allOf": [_object(a=_DIGIT, b=_DIGIT), {"properties": {"a": {"minimum": 4}}}]},
    "reference": {"$defs": {"Größe": _DIGIT}, **_object(a={"$ref": "#/$defs/Gr%C3%B6%C3%9Fe"}, b={"$ref": "#/properties/a"})},
    "reference with more": {"$defs": {"d": _DIGIT}, **_object(a={"$ref": "#/$defs/d", "maximum": 3})},
    "recursion": {"$defs": {"n": {"type": "object", "properties": {"v": _DIGIT, "nächster": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/n"}]}}, "required": ["v", "nächster"]}}, "$ref": "#/$defs/n"},
    "title and unknown words": {"title": "T", "x-order": 1, "default": 3, **_DIGIT, "examples": [1]},
    "any object": {"type": "object"},
}  # fmt: skip

# Each with what the refusal names.
REFUSED: dict[str, tuple[Any, str]] = {
    "not": ({"type": "string", "not": {"const": "a"}}, "has not"),
    "if": ({"if": {"type": "string"}, "then": {"maxLength": 3}}, "has if"),
    "contains": ({"type": "array", "contains": {"const": 1}}, "has contains"),
    "dependentRequired": ({"type": "object", "dependentRequired": {"a": ["b"]}}, "has dependentRequired"),
    "uniqueItems": ({"type": "array", "items": {"type": "string"}, "uniqueItems": True}, "has uniqueItems"),
    "multipleOf": ({"type": "integer", "minimum": 3, "multipleOf": 7}, "has multipleOf"),
    "multipleOf of thirds": ({"type": "number", "multipleOf": 0.3}, "has multipleOf"),
    "format and length": ({"type": "string", "format": "email", "maxLength": 20}, "has a length beside format"),
    "pattern and length": ({"type": "string", "pattern": "^a+$", "maxLength": 20}, "has a length beside pattern"),
    "pattern and format": ({"type": "string", "pattern": "a", "format": "date"}, "has pattern beside format"),
    "format": ({"type": "string", "format": "iri"}, "has format iri"),
    "lookahead": ({"type": "string", "pattern": "(?=a)b"}, "has a pattern that looks ahead"),
    "reference back": ({"type": "string", "pattern": "(a)\\1"}, "has a pattern that refers back"),
    "overlapping oneOf": ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "has 0 and 1, which may both fit"),
    "overlapping objects": (
        {"oneOf": [{"type": "object", "properties": {"a": {}}}, {"type": "object", "properties": {"b": {}}}]},
        "has 0 and 1, which may both fit",
    ),
    "two patterns": ({"allOf": [{"type": "string", "pattern": "a"}, {"pattern": "b"}]}, "has two pattern"),
    "closed and extended": ({"allOf": [_object(a={}), {"properties": {"b": {}}}]}, "has additionalProperties beside"),
    "elsewhere": ({"$ref": "https://example.com/schema"}, "which is not in it"),
    "counted map": ({"type": "object", "minProperties": 2}, "has minProperties"),
    "two pattern properties": ({"patternProperties": {"a": {}, "b": {}}}, "has more than one of patternProperties"),
    "enum and length": ({"enum": ["a", "bb"], "maxLength": 1}, "has maxLength beside enum"),
    "too many properties": ({"type": "object", "properties": {f"k{at}": _RANGE for at in range(400)}}, "is too large"),
    "too many counted properties": (
        {"type": "object", "properties": dict.fromkeys(map(str, range(300)), _RANGE), "maxProperties": 150},
        "is too large",
    ),
    "too many cases": ({"oneOf": [{"const": at} for at in range(150)]}, "has more than 100 cases"),
    "too long a list": ({"enum": ["a" * 300_000]}, "has more than 200000 characters"),
    "too long a pattern": ({"type": "string", "pattern": "a" * 5000}, "has a pattern that has more than 4000"),
    "too deep": (_deep(60), "nests too deep"),
}
WRONG: dict[str, tuple[Any, str]] = {
    "no type": ({"type": "poem"}, 'is of type "poem"'),
    "no value": (False, "allows no value"),
    "bounds": ({"type": "integer", "minimum": 4, "maximum": 3}, "allows no value"),
    "nowhere": ({"$ref": "#/$defs/x"}, "where nothing is"),
    "to itself": ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "refers to itself"),
    "length": ({"type": "string", "maxLength": -1}, "has a maxLength that is no whole number"),
    "bound": ({"type": "number", "minimum": "3"}, "has a minimum that is no number"),
}
