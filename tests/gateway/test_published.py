"""The published schema is no looser than the gateway: what it allows, the gateway takes."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.openapi import BODIES, describe


async def nothing(_: Request) -> Response:
    """A route needs an endpoint."""
    return Response()


@pytest.mark.parametrize("door", BODIES)
def test_what_is_published_is_taken(door: str) -> None:
    document = describe([Route(door, nothing, methods=["POST"])], keys_needed=False)
    operation: Any = schemathesis.openapi.from_dict(document)[door]["POST"]

    @settings(max_examples=15, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
    def check(case: Case[Any]) -> None:
        BODIES[door][0].model_validate(case.body)

    check()
