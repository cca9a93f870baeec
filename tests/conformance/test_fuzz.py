"""No input gives a 5xx: some hundred requests, valid and not, made of the published OpenAPI document."""

import pytest
from schemathesis import GenerationMode

from tests.conformance.fuzz import operations, send_many
from tests.conformance.target import Target


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_no_input_gives_a_5xx(target: Target, mode: GenerationMode) -> None:
    sent = sum(send_many(operation, target, mode, 10) for operation in operations(target))
    if not sent:
        pytest.skip("the server publishes no OpenAPI document")
