"""Calls of a library that is not here, as data: checked here, written as JSON, made where the library is.

Only the standard library: the builder's script runs this in an image that has nothing of ours.
"""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from contract.engines.trtllm.api import place


@dataclass(frozen=True)
class Member:
    """A member of one of the library's enumerations."""

    enum: str
    name: str


@dataclass(frozen=True)
class Call:
    """A class of the library and its keyword arguments: plain values, members, or calls again."""

    name: str
    arguments: dict[str, Any]


def walk(call: Call) -> Iterator[Call]:
    """A call and all calls within it."""
    yield call
    for value in call.arguments.values():
        if isinstance(value, Call):
            yield from walk(value)


def to_json(value: Any) -> Any:
    """A call as JSON values."""
    if isinstance(value, Call):
        return {"call": value.name, "arguments": {name: to_json(part) for name, part in value.arguments.items()}}
    if isinstance(value, Member):
        return {"enum": value.enum, "member": value.name}
    return value


def from_json(value: Any) -> Any:
    """The inverse of :func:`to_json`."""
    if isinstance(value, dict) and value.keys() == {"call", "arguments"}:
        return Call(value["call"], {name: from_json(part) for name, part in value["arguments"].items()})
    if isinstance(value, dict) and value.keys() == {"enum", "member"}:
        return Member(value["enum"], value["member"])
    return value


def find(name: str) -> Any:
    """The library's own class or enumeration.

    Raises:
        ImportError: the library is not here.
        AttributeError: it has no such name where the recorded one has it.
    """
    module, _, attribute = place(name).rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def make(value: Any) -> Any:
    """What a call is for: the library's objects, the innermost first. Keywords only, as positions differ by release."""
    if isinstance(value, Call):
        return find(value.name)(**{name: make(part) for name, part in value.arguments.items()})
    if isinstance(value, Member):
        return getattr(find(value.enum), value.name)
    return value
