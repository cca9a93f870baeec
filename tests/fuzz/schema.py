"""Bodies of a published JSON schema: mostly what it asks for, and of each part now and then something else."""

from typing import Any

from hypothesis import strategies as st

from tests.fuzz.values import odd, texts

Schema = dict[str, Any]
_DEEP = 5  # levels, below which only what is simple comes


@st.composite
def of_schema(draw: st.DrawFn, schema: Schema, defs: dict[str, Schema], depth: int = 0) -> Any:
    """A value of a schema; one part in twenty is not."""
    if draw(st.integers(0, 19)) == 0:
        return draw(odd)
    if "$ref" in schema:
        return draw(of_schema(defs[schema["$ref"].rsplit("/", 1)[1]], defs, depth))
    for union in ("anyOf", "oneOf", "allOf"):
        if schema.get(union):
            members = schema[union]
            simple = [
                each for each in members if each.get("type") in ("null", "string", "number", "boolean", "integer")
            ]
            chosen = draw(st.sampled_from(simple if depth > _DEEP and simple else members))
            return draw(of_schema(chosen, defs, depth + 1))
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    return draw(_of_type(schema, defs, depth))


@st.composite
def _of_type(draw: st.DrawFn, schema: Schema, defs: dict[str, Schema], depth: int) -> Any:
    match schema.get("type"):
        case "object":
            return draw(_object(schema, defs, depth))
        case "array":
            items = schema.get("items") or {}
            most = 0 if depth > _DEEP else 3
            return draw(st.lists(of_schema(items, defs, depth + 1), min_size=min(1, most), max_size=most))
        case "integer":
            return draw(st.integers(int(schema.get("minimum", -3)), int(schema.get("maximum", 40))))
        case "number":
            return draw(st.floats(float(schema.get("minimum", -3)), float(schema.get("maximum", 3))))
        case "boolean":
            return draw(st.booleans())
        case "null":
            return None
        case _:
            return draw(texts)


@st.composite
def _object(draw: st.DrawFn, schema: Schema, defs: dict[str, Schema], depth: int) -> Any:
    properties, needed = schema.get("properties", {}), schema.get("required", [])
    optional = sorted(set(properties) - set(needed))
    taken = draw(st.lists(st.sampled_from(optional), max_size=4, unique=True)) if optional and depth <= _DEEP else []
    return {name: draw(of_schema(properties[name], defs, depth + 1)) for name in (*needed, *taken)}
