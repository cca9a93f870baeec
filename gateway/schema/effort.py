"""How much the model is to reason: what clients ask for, and what chat templates know."""

from typing import Any, Literal

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
EFFORT = (
    "told to the chat template as `reasoning_effort`: low, medium or high, the nearest; "
    "none as `enable_thinking` and `thinking`"
)
_NEAREST = {"minimal": "low", "xhigh": "high", "max": "high"}


def variables_of(effort: Effort) -> dict[str, Any]:
    """The chat template's variables for an effort."""
    return thinks(False) if effort == "none" else {"reasoning_effort": _NEAREST.get(effort, effort)}


def thinks(wanted: bool) -> dict[str, Any]:
    """The chat template's variables for reasoning at all; each family has its own name."""
    return {"enable_thinking": wanted, "thinking": wanted}
