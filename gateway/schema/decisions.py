"""What becomes of each field of a body, kept beside it: honoured, accepted because it asks for nothing, or refused.

    temperature: Annotated[float | None, HONOURED] = None
    user: Annotated[str | None, Accepted("names the end user to the provider; nothing is kept here")] = None
    best_of: Annotated[Any, Refused("ask for n answers and choose among them", 1)] = None

docs/fields.md is made of them (gateway/fields_page.py), and a test walks each over the gateway.
"""

import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

REFUSAL = "refused"  # the type of the fault that pydantic reports


@dataclass(frozen=True)
class Honoured:
    """It does what its name says. ``how``: what is not plain from the name."""

    how: str = ""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The published schema says how."""
        return _told(handler(schema), self.how)


HONOURED = Honoured()


@dataclass(frozen=True)
class Accepted:
    """Any value of its type: none of them changes the answer. ``why``: what makes that true."""

    why: str

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The published schema says why."""
        return _told(handler(schema), self.why)


@dataclass(frozen=True, init=False)
class Refused:
    """Refused by name, but for the values that ask for nothing. For fields of type Any.

    Args:
        why: it cannot be honoured, and the way out.
        neutral: the values that ask for nothing, beside null.
    """

    why: str
    neutral: tuple[Any, ...] = field(hash=False)

    def __init__(self, why: str, *neutral: Any) -> None:
        object.__setattr__(self, "why", why)
        object.__setattr__(self, "neutral", neutral)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Nothing but the neutral values passes."""
        return core_schema.no_info_plain_validator_function(self._checked)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The published schema is no looser."""
        return {"enum": [*self.neutral, None], "description": self.why}

    def _checked(self, value: Any) -> Any:
        if not any(_same(value, neutral) for neutral in self.neutral):
            raise PydanticCustomError(REFUSAL, "{why}", {"why": self.why})
        return value


Decision = Honoured | Accepted | Refused


@dataclass(frozen=True)
class Entry:
    """One field of a body, or of an object in it."""

    path: str  # as a client writes it: messages[].content[text].text
    model: type[BaseModel]  # whose field it is
    name: str  # in the model
    decision: Decision | None


def entries(model: type[BaseModel], before: str = "") -> Iterator[Entry]:
    """Every field of a body and, depth first, of the objects in it. A tag (``type``) belongs to its object."""
    for name, info in model.model_fields.items():
        path = before + (info.alias or name)
        if not _is_tag(name, info):
            yield Entry(path, model, name, decision_of(info))
        inner = list(_models_in(info.annotation))
        for part, many in inner:
            kind = _tag_of(part) if len(inner) > 1 else ""
            yield from entries(part, f"{path}[{kind}]." if many else f"{path}({kind})." if kind else f"{path}.")


def decision_of(info: FieldInfo) -> Decision | None:
    """What was decided of a field; None: nobody did."""
    return next((each for each in info.metadata if isinstance(each, Decision)), None)


def _is_tag(name: str, info: FieldInfo) -> bool:
    return name == "type" and get_origin(info.annotation) is Literal


def _tag_of(model: type[BaseModel]) -> str:
    tag = model.model_fields.get("type")
    return "|".join(get_args(tag.annotation)) if tag and _is_tag("type", tag) else model.__name__


def _models_in(annotation: Any, many: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    """The models that a field's value may be or hold, and whether there may be several."""
    origin = get_origin(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, many
    elif origin is Annotated:
        yield from _models_in(get_args(annotation)[0], many)
    elif origin in (Union, types.UnionType):
        for each in get_args(annotation):
            yield from _models_in(each, many)
    elif origin is list:
        yield from _models_in(get_args(annotation)[0], True)


def _same(value: Any, neutral: Any) -> bool:
    """Equal, as JSON has it: 1.0 is 1, and true is not."""
    return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)


def _told(schema: JsonSchemaValue, text: str) -> JsonSchemaValue:
    return {**schema, "description": text} if text else schema
