"""docs/inputs.md from the contract's own decisions: ``python -m contract.inputs_page`` (make inputs-page)."""

from collections.abc import Iterable

from contract.checkout import ROOT
from contract.nvidia import NOT_SERVED, PARAMETERS, TEXT_UNARY, TOKEN_INPUTS, TOKENS, TOKENS_STREAMING, TOKENS_UNARY
from contract.tensors import ENSEMBLE_ALIAS, INPUTS, OUTPUTS, Decision, Tensor

PAGE = ROOT / "docs" / "inputs.md"

_HEAD = f"""# What becomes of every input
`make inputs-page` writes this page from the contract; tests fail where it differs, where an input has no decision, and
where what is decided is not what happens (`test_inputs.py` and `test_parameters.py` in `tests/python_backend`).

Nothing is ignored in silence: an input is **honoured**, **accepted** because it asks for nothing here, or **refused**
by name. What an engine must have to honour one is in [what each engine can do](engines.md).

## `{ENSEMBLE_ALIAS}`, the deployment's own name and `{TEXT_UNARY}`
In the column NVIDIA is "yes" where NVIDIA's `inflight_batcher_llm` has the input too.
"""
_TOKENS = f"""
## `{TOKENS_UNARY}` and `{TOKENS_STREAMING}`
Token ids in and out. An input that is above too has the same decision here.
"""
_NOT_SERVED = """
## NVIDIA's inputs that no model here has
Triton refuses them by name as tensors; as fields of `generate` they are refused with the way out.
"""
_PARAMETERS = """
## Parameters of a request
Over HTTP Triton makes a parameter of every field of `generate` that is no input. Any other than these is refused by
name. `infer` and gRPC carry some of them beside the tensors, and there Triton itself drops `priority` before any model
can see it.
"""


def page() -> str:
    """The whole file."""
    return "\n".join(
        [
            _HEAD,
            *_table(("input", "type", "NVIDIA", "decision", ""), map(_row, INPUTS)),
            _TOKENS,
            *_table(("input", "ours", "decision", ""), map(_token_row, TOKENS.inputs.items())),
            _NOT_SERVED,
            *_table(("input", "why"), ((f"`{name}`", f"{why}.") for name, why in NOT_SERVED.items())),
            _PARAMETERS,
            *_table(
                ("parameter", "decision", ""),
                ((f"`{name}`", _said(each.decision, each.neutral), each.doc) for name, each in PARAMETERS.items()),
            ),
            "\n## Outputs",
            *_table(("output", "type", ""), ((f"`{each.name}`", _type(each), each.doc) for each in OUTPUTS)),
            "",
        ]
    )


def _row(tensor: Tensor) -> tuple[str, ...]:
    return f"`{tensor.name}`", _type(tensor), "" if tensor.ours else "yes", _decision(tensor), tensor.doc


def _token_row(item: tuple[str, Tensor]) -> tuple[str, ...]:
    name, tensor = item
    shown = "" if tensor in TOKEN_INPUTS else f"`{tensor.name}`"
    return f"`{name}`", shown, _decision(tensor), tensor.doc


def _decision(tensor: Tensor) -> str:
    return f"as `{tensor.alias_of}`" if tensor.alias_of else _said(tensor.decision, tensor.neutral)


def _said(decision: Decision, neutral: tuple[object, ...]) -> str:
    if decision is not Decision.NEUTRAL or not neutral:
        return decision.value
    values = ", ".join("`false`" if value is False else '`""`' if value == "" else f"`{value}`" for value in neutral)
    return f"accepted: {values}; else refused"


def _type(tensor: Tensor) -> str:
    dims = ", ".join("n" if each == -1 else str(each) for each in tensor.dims)
    return f"{tensor.dtype} [{dims}]"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterable[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
