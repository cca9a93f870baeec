"""JSON Schema's keywords: which say nothing, which type each speaks of, and which no grammar here keeps."""

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")

# Keyword → the type that it speaks of.
OF_TYPE = {
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), "number"),
    **dict.fromkeys(("minLength", "maxLength", "pattern", "format"), "string"),
    **dict.fromkeys(
        ("items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems", "unevaluatedItems"), "array"
    ),
    **dict.fromkeys(
        (
            *("properties", "required", "additionalProperties", "patternProperties", "propertyNames"),
            *("minProperties", "maxProperties", "unevaluatedProperties"),
        ),
        "object",
    ),
}

ANNOTATIONS = frozenset(
    {
        *("$schema", "$id", "$comment", "$defs", "definitions", "$vocabulary", "id"),
        *("title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly"),
        *("contentEncoding", "contentMediaType", "contentSchema", "discriminator"),
    }
)

_RESHAPE = "Leave it out and check the answer, or say it with enum, anyOf or separate properties"
# Keyword → what a client can do instead.
REFUSED = {
    "not": "Say what the value may be: enum, anyOf or pattern",
    "if": "Use anyOf, a schema for each case",
    "then": "Use anyOf, a schema for each case",
    "else": "Use anyOf, a schema for each case",
    "contains": _RESHAPE,
    "minContains": _RESHAPE,
    "maxContains": _RESHAPE,
    "dependentRequired": "Use anyOf, a schema for each case",
    "dependentSchemas": "Use anyOf, a schema for each case",
    "dependencies": "Use anyOf, a schema for each case",
    "$dynamicRef": "Use $ref",
    "$recursiveRef": "Use $ref",
}

# Formats of numbers name a representation and say nothing of the value that JSON Schema knows.
NUMBER_FORMATS = frozenset({"int32", "int64", "uint32", "uint64", "float", "double"})
