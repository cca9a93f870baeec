"""Unions whose parts are told apart by their ``type``, with refusals that name it."""

from typing import Any

from pydantic import BeforeValidator, Discriminator


def kinds(refusal: str, default: str | None = None, /, **known: str) -> tuple[Discriminator, BeforeValidator]:
    """The annotations of a union.

    Args:
        refusal: why nothing else can be taken.
        default: the type where none is given.
        known: types, each with the tag of its part: one with a capital, so that no error's path has it.
    """

    def tag(given: Any) -> str | None:
        kind = given.get("type", default) if isinstance(given, dict) else None
        return known.get(kind) if isinstance(kind, str) else None

    def check(given: Any) -> Any:
        kind = given.get("type", default) if isinstance(given, dict) else None
        if not isinstance(kind, str):
            raise ValueError("must be an object with a type")
        if kind not in known:
            raise ValueError(f"what is of type {kind!r:.60} cannot be taken: {refusal}")
        return given

    return Discriminator(tag), BeforeValidator(check)


def only(refusal: str, *known: str) -> BeforeValidator:
    """The annotation of a union of words and objects: no object of another type is taken."""

    def check(given: Any) -> Any:
        if isinstance(given, dict) and given.get("type") not in known:
            raise ValueError(f"what is of type {given.get('type')!r:.60} cannot be taken: {refusal}")
        return given

    return BeforeValidator(check)
