"""docs/planning.md and the tool say the same."""

import pytest

from tests.plan import page


def test_the_page_is_what_the_tool_says() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert text == page.rendered(text), "run python -m tests.plan.page"
    assert all(f"<!-- {name}: made by" in text for name in page.TABLES)


@pytest.mark.parametrize(("model", "gpu", "streams", "measured", "estimated"), [*page.compared()])
def test_the_estimate_meets_what_was_measured(
    model: str, gpu: str, streams: int, measured: float, estimated: float
) -> None:
    assert estimated == pytest.approx(measured, rel=0.1)
