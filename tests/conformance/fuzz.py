"""Requests that schemathesis makes of the published OpenAPI document, kept small enough to be many."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation

from tests.conformance.target import Target, user

Operation = APIOperation[Any, Any, Any, Any]
_MOST = {"max_tokens": 3, "max_completion_tokens": 3, "max_output_tokens": 16, "n": 2, "min_tokens": 3}
_PATIENCE_S = 60


def operations(target: Target) -> Iterator[Operation]:
    """The operations under /v1 that the server publishes; none where it publishes nothing."""
    document = httpx.get(f"{target.origin}/openapi.json", headers=target.headers)
    if document.status_code == 200:
        schema = schemathesis.openapi.from_dict(document.json())
        schema.config.update(base_url=target.origin)
        for found in schema.get_all_operations():
            operation = found.ok()  # type: ignore[union-attr]  # an error in the document raises here
            if operation.path.startswith("/v1/"):
                yield operation


def send_many(operation: Operation, target: Target, mode: GenerationMode, count: int) -> int:
    """Send this many cases; every answer is what the document says, and none is a 5xx. Returns how many were sent."""
    sent = 0

    @settings(
        max_examples=count, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Case[Any]) -> None:
        nonlocal sent
        sent += 1
        case.body = _small(case.body, target.model, counts=operation.path.endswith("tokens"))
        if mode.is_positive:
            _let_through(case)
        response = case.call(headers=target.headers, timeout=_PATIENCE_S)
        # Another server's document is its own affair.
        case.validate_response(response, checks=None if target.own else [not_a_server_error], excluded_checks=_NOT_OURS)

    with suppress(Unsatisfiable):  # what takes nothing cannot be asked wrongly
        send()
    return sent


def _small(body: Any, model: str, *, counts: bool) -> Any:
    """The same body for a model that exists, asking for few tokens or for their count; wrong types stay wrong."""
    if not isinstance(body, dict):
        return body
    kept = {**body, "model": model} if isinstance(body.get("model"), str) else dict(body)
    for name, most in _MOST.items():
        if isinstance(kept.get(name), int | float) and not isinstance(kept[name], bool) and kept[name] > most:
            kept[name] = most
    if counts:
        return kept
    for name, field, least in (
        ("messages", "max_tokens", kept.get("max_completion_tokens") or 2),
        ("prompt", "max_tokens", 2),
        ("input", "max_output_tokens", 16),
    ):
        if name in body and kept.get(field) is None:
            kept[field] = least
    return kept


def _let_through(case: Case[Any]) -> None:
    """A key, no deadline, and messages that make a chat: what lies behind these is to be reached too."""
    case.headers.clear()
    if isinstance(case.body, dict) and "messages" in case.body:
        case.body["messages"] = user("Hi")


# What a schema cannot say (a prompt's length, fields that exclude each other) makes a valid body a refused one.
_NOT_OURS = [schemathesis.checks.positive_data_acceptance]
