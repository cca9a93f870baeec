"""Traces out of a file of OTLP JSON, a line a batch, as ``tracing.file`` of a deployment has them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.errors import ConchError


class TraceError(ConchError):
    """A file that has no traces."""


@dataclass(frozen=True)
class Span:
    """One span with those within it, in the order of their beginnings."""

    trace: str
    name: str
    begun_ns: int
    ended_ns: int
    attributes: dict[str, Any]
    failed: bool
    parts: tuple["Span", ...]

    @property
    def ms(self) -> float:
        """How long it took."""
        return (self.ended_ns - self.begun_ns) / 1e6

    def leaves(self) -> Iterator["Span"]:
        """The spans within it that have none."""
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part.leaves()


def read(path: Path) -> list[Span]:
    """Each request's whole span, in the order of their beginnings.

    Raises:
        TraceError: there is no such file, or a line of it is something else.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise TraceError(f"{path} cannot be read: {error.strerror}", fix="tracing.file says where they are") from None
    told: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            told += [
                span
                for resource in json.loads(line)["resourceSpans"]
                for scope in resource["scopeSpans"]
                for span in scope["spans"]
            ]
        except (ValueError, KeyError, TypeError):
            raise TraceError(f"{path}:{number} is no OTLP JSON", fix="Give a file that tracing.file names") from None
    ids = {span["spanId"] for span in told}
    within: dict[str, list[dict[str, Any]]] = {}
    for span in sorted(told, key=lambda each: int(each["startTimeUnixNano"])):
        parent = span.get("parentSpanId", "")
        within.setdefault(parent if parent in ids else "", []).append(span)
    return [_span(root, within) for root in within.get("", ())]


def _span(told: dict[str, Any], within: dict[str, list[dict[str, Any]]]) -> Span:
    return Span(
        told["traceId"],
        told["name"],
        int(told["startTimeUnixNano"]),
        int(told["endTimeUnixNano"]),
        {each["key"]: _plain(each["value"]) for each in told.get("attributes", ())},
        told.get("status", {}).get("code") == 2,
        tuple(_span(part, within) for part in within.get(told["spanId"], ())),
    )


def _plain(value: dict[str, Any]) -> Any:
    """An attribute's value; a number of 64 bits is text in JSON."""
    (kind, told), *_ = value.items()
    if kind == "arrayValue":
        return [_plain(each) for each in told.get("values", ())]
    return int(told) if kind == "intValue" else told
