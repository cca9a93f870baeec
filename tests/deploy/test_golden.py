"""What is rendered is what was reviewed."""

import pytest

from tests.deploy.cases import CASES, GOLDEN, golden


@pytest.mark.parametrize("case", CASES)
def test_rendered_as_reviewed(case: str) -> None:
    reviewed = {path.name: path.read_text(encoding="utf-8") for path in (GOLDEN / case).iterdir()}
    assert golden(case) == reviewed, "look at it, then python -m tests.deploy.cases writes it"
