"""What Triton's two transports share: an ask as tensors of ``inflight_batcher_llm``, a refusal as an outcome."""

import json
from typing import Any

from contract.errors import RequestError, from_wire
from contract.tensors import INPUT_BY_NAME
from loadtests.load.fault import LoadError, StreamFault, outcome_of_status
from loadtests.load.rows import Outcome, Row
from loadtests.load.workload import Ask

# Of NVIDIA's engine stage, where its ensemble passes them on; nanoseconds.
ARRIVED, SCHEDULED = "arrival_time_ns", "first_scheduled_time_ns"


def tensors(ask: Ask) -> dict[str, Any]:
    """The inputs by name: those of NVIDIA's ensembles alone, so that any server with them can be asked."""
    inputs: dict[str, Any] = {"text_input": ask.text, "max_tokens": ask.max_tokens, "stream": True}
    if ask.schema:
        guide = {"guided_decoding_guide_type": "json_schema", "guided_decoding_guide": json.dumps(ask.schema)}
        inputs |= guide
    return inputs | ask.extra


def check_extra(extra: dict[str, Any]) -> None:
    """Refuse a field that is no tensor.

    Raises:
        LoadError: naming it.
    """
    for name in extra:
        if name not in INPUT_BY_NAME:
            raise LoadError(f"--extra: {name!r} is no input of the ensemble", fix="See contract/tensors.py")


def fault(message: str, row: Row, status: int = 0) -> StreamFault:
    """A refusal or an error in the middle of a stream; Triton's own statuses say less than our words."""
    if row.chunks:
        return StreamFault(Outcome.MID_STREAM, message)
    error: RequestError = from_wire(message)
    told = error.kind != "internal" or not status
    return StreamFault(outcome_of_status(error.codes.http if told else status), message)
