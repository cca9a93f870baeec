"""A JSON schema as a grammar of the answers that are written for it: never one that does not fit the schema.

Not every fitting value is written: an object has its properties in the schema's order and no others unless the schema
asks for them, and blanks stand where a printer puts them. What the grammar cannot keep is refused with its place.
"""

import functools
import json
from typing import Any, NoReturn
from urllib.parse import unquote

from contract.errors import InvalidRequest, UnsupportedByEngine
from python_backend.grammar.arrays import array
from python_backend.grammar.disjoint import excludes
from python_backend.grammar.ebnf import Rules, either, literal
from python_backend.grammar.keywords import ANNOTATIONS, OF_TYPE, REFUSED, TYPES
from python_backend.grammar.merge import CannotMerge, Schema, merged
from python_backend.grammar.number import NUMBER
from python_backend.grammar.objects import object_
from python_backend.grammar.scalars import number, string
from python_backend.grammar.text import string as any_string

FIELD = "guided_decoding_guide"
_MOST_NESTED = 48
_MOST_TEXT = 200_000  # characters of a schema
_MOST_CASES = 100  # of a oneOf: each is compared with each
_MOST_PLACES = 5000  # visited; a schema of a few lines can be as large as it likes through its references


@functools.lru_cache(maxsize=256)
def grammar_of(schema: str) -> str:
    """The EBNF of a JSON schema.

    Args:
        schema: JSON text; '' is any object.

    Raises:
        InvalidRequest: it is no schema, or allows no value.
        UnsupportedByEngine: it has what cannot be kept; both name the place and the keyword.
    """
    if len(schema) > _MOST_TEXT:
        raise UnsupportedByEngine(f"# has more than {_MOST_TEXT} characters", field=FIELD)
    try:
        root = json.loads(schema or '{"type": "object"}', parse_constant=_no_constant)
        compiler = Compiler(root)
        return compiler.rules.text(compiler.value(root, "#"))
    except RecursionError:
        raise InvalidRequest("nests too deep", field=FIELD) from None
    except ValueError as error:
        raise InvalidRequest(f"is not JSON: {error}", field=FIELD) from None


class Compiler:
    """What the parts of one schema's grammar share."""

    def __init__(self, root: Any) -> None:
        self.rules = Rules()
        self.ws = self.rules.rule('(" " | "\\n" [ \\t]{0,40})?', "ws")
        self._root = root
        self._of_reference: dict[str, str] = {}
        self._any = ""
        self._nested = 0
        self._places = 0

    def value(self, schema: Any, where: str) -> str:
        """The grammar of a value.

        Args:
            where: the schema's place, for what is refused.
        """
        self._places += 1
        self._nested += 1
        try:
            if self._nested > _MOST_NESTED or self._places > _MOST_PLACES:
                self.refuse(where, "nests too deep or is too large")
            body = self._value(schema, where)
        finally:
            self._nested -= 1
        if not body:
            self.invalid(where, "allows no value")
        self.rules.grow(len(body))
        return body

    def any_value(self) -> str:
        """Any JSON."""
        if not self._any:
            self._any = self.rules.name("any")
            pair = f'{any_string(self.rules)} ":" " "? {self._any}'
            ways = [self.listed("{", pair, "}"), self.listed("[", self._any, "]")]
            self.rules.define(self._any, either([*ways, any_string(self.rules), NUMBER, '"true"', '"false"', '"null"']))
        return self._any

    def listed(self, opening: str, item: str, closing: str) -> str:
        """Any number of these between brackets."""
        return f'"{opening}" {self.ws} ({item} ("," {self.ws} {item})* {self.ws})? "{closing}"'

    def refuse(self, where: str, message: str, fix: str = "") -> NoReturn:
        """What no grammar here keeps."""
        raise UnsupportedByEngine(f"{where} {message}", field=FIELD, fix=fix)

    def invalid(self, where: str, message: str) -> NoReturn:
        """What is no schema."""
        raise InvalidRequest(f"{where} {message}", field=FIELD)

    def flat(self, schema: Any, where: str) -> Schema:
        """A schema without ``$ref`` and ``allOf``: what they say is its own.

        Raises:
            RequestError: they cannot be resolved, or not be one.
        """
        if schema is True:
            return {}
        if not isinstance(schema, dict):
            self.invalid(where, "must be an object")
        found: Schema = schema
        seen: set[str] = set()
        while "$ref" in found or "allOf" in found:
            self._places += 1
            if self._places > _MOST_PLACES:
                self.refuse(where, "is too large")
            rest = {name: value for name, value in found.items() if name not in ("$ref", "allOf")}
            parts = list(_list(found.get("allOf", ()), self, f"{where}/allOf"))
            if reference := found.get("$ref"):
                if reference in seen:
                    self.invalid(where, f"refers to itself: {reference}")
                seen.add(str(reference))
                parts.append(self._target(reference, where))
            for part in parts:
                if part is False:
                    self.invalid(where, "allows no value")
                rest = self._merged(rest, {} if part is True else part, where)
            found = rest
        return found

    def _value(self, schema: Any, where: str) -> str:
        if schema is True or schema == {}:
            return self.any_value()
        if isinstance(schema, dict) and "$ref" in schema and not schema.keys() - ANNOTATIONS - {"$ref"}:
            return self._referred(schema["$ref"], where)
        if schema is False:
            return ""
        schema = self.flat(schema, where)
        for name in schema:
            if name in REFUSED:
                self.refuse(where, f"has {name}, which cannot be kept while an answer is written", REFUSED[name])
        if "anyOf" in schema or "oneOf" in schema:
            return self._alternatives(schema, where)
        if "const" in schema or "enum" in schema:
            return self._listed_values(schema, where)
        types = self._types(schema, where)
        ways = [self._of_type(kind, schema, where) for kind in types]
        return either(way for way in ways if way) if any(ways) else ""

    def _of_type(self, kind: str, schema: Schema, where: str) -> str:
        match kind:
            case "object":
                return object_(self, schema, where)
            case "array":
                return array(self, schema, where)
            case "string":
                return string(self, schema, where)
            case "number" | "integer":
                return number(self, schema, where, whole=kind == "integer")
            case "boolean":
                return '("true" | "false")'
            case "null":
                return '"null"'
        self.invalid(where, f'is of type "{kind:.40}", which JSON Schema does not have')

    def _types(self, schema: Schema, where: str) -> list[str]:
        """The types to write; where none is given, those that the keywords speak of."""
        given = schema.get("type")
        if given is None:
            return list(dict.fromkeys(OF_TYPE[name] for name in schema if name in OF_TYPE)) or list(TYPES)
        types = given if isinstance(given, list) else [given]
        if not all(isinstance(kind, str) for kind in types):
            self.invalid(where, "has a type that is no text")
        return [kind for kind in types if kind != "integer" or "number" not in types]

    def _alternatives(self, schema: Schema, where: str) -> str:
        name = "anyOf" if "anyOf" in schema else "oneOf"
        if "anyOf" in schema and "oneOf" in schema:
            self.refuse(where, "has anyOf beside oneOf", "Write one anyOf of all cases")
        rest = {key: value for key, value in schema.items() if key != name and key not in ANNOTATIONS}
        branches = [branch for branch in _list(schema[name], self, f"{where}/{name}") if branch is not False]
        if name == "oneOf":
            self._check_apart([self.flat(branch, where) for branch in branches], f"{where}/{name}")
        if rest:
            branches = [self._merged(rest, self.flat(branch, where), where) for branch in branches]
            branches = [branch for branch in branches if branch.get("type") != [] and branch.get("enum") != []]
        return (
            either(self.value(branch, f"{where}/{name}/{at}") for at, branch in enumerate(branches)) if branches else ""
        )

    def _check_apart(self, branches: list[Schema], where: str) -> None:
        """Refuse a ``oneOf`` two of whose schemas may fit the same value."""
        if len(branches) > _MOST_CASES:
            self.refuse(where, f"has more than {_MOST_CASES} cases", "Use anyOf or enum")
        for at, one in enumerate(branches):
            for number_, other in enumerate(branches[:at]):
                if not (excludes(one, other) and excludes(other, one)):
                    self.refuse(
                        where,
                        f"has {number_} and {at}, which may both fit one value",
                        "Use anyOf, or give each a required property with a const of its own",
                    )

    def _listed_values(self, schema: Schema, where: str) -> str:
        values = [schema["const"]] if "const" in schema else _list(schema["enum"], self, f"{where}/enum")
        if "const" in schema and "enum" in schema and schema["const"] not in schema["enum"]:
            return ""
        for name in schema:
            if name in OF_TYPE:
                self.refuse(where, f"has {name} beside enum or const", "List the values that fit")
        if "type" in schema:
            values = [value for value in values if any(_is(value, kind) for kind in self._types(schema, where))]
        written = [json.dumps(value, ensure_ascii=False) for value in values]
        return either(literal(text) for text in written) if written else ""

    def _referred(self, reference: Any, where: str) -> str:
        """The rule of what a reference points at; it may refer to itself further within."""
        if reference not in self._of_reference:
            target = self._target(reference, where)
            if isinstance(target, dict):
                self.flat(target, where)  # which sees a reference to nothing but itself
            name = self._of_reference[reference] = self.rules.name("d")
            self.rules.define(name, self.value(target, str(reference)))
        return self._of_reference[reference]

    def _target(self, reference: Any, where: str) -> Any:
        if not isinstance(reference, str) or not reference.startswith("#"):
            self.refuse(where, f"refers to {reference!s:.80}, which is not in it", "Put it under $defs")
        found = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and name.isdigit() and int(name) < len(found):
                found = found[int(name)]
            elif isinstance(found, dict) and name in found:
                found = found[name]
            else:
                self.invalid(where, f"refers to {reference:.80}, where nothing is")
        return found

    def _merged(self, one: Schema, other: Schema, where: str) -> Schema:
        if not isinstance(other, dict):
            self.invalid(where, "must hold objects")
        try:
            return merged(one, other)
        except CannotMerge as error:
            self.refuse(where, error.message, error.fix)


def _list(given: Any, compiler: Compiler, where: str) -> list[Any]:
    if not isinstance(given, list | tuple):
        compiler.invalid(where, "must be a list")
    return list(given)


def _is(value: Any, kind: str) -> bool:
    match kind:
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int | float) and not isinstance(value, bool) and value == int(value)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "string":
            return isinstance(value, str)
        case "array":
            return isinstance(value, list)
    return isinstance(value, dict)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
