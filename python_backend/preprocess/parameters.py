"""What of a request is no tensor: Triton's parameters and its own fields, each decided by name.

Over HTTP Triton makes a parameter of every field of ``generate`` that is no input, so a misspelt or unknown field
arrives here. It keeps some that ``infer`` carries to itself: ``timeout`` and ``sequence_id`` come as fields of the
request, ``priority`` comes to nobody but Triton's own queues, which a model without dynamic batching has none of.
"""

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any

from contract.errors import InvalidRequest
from contract.nvidia import NOT_SERVED, PARAMETERS
from contract.stage import ABORT_KEY
from contract.tensors import INPUT_BY_NAME, Decision
from contract.wire import TOKENIZE

MOST_ID_CHARACTERS = 256


def abort_key(parameters: Mapping[str, Any]) -> int:
    """The key that a unary model gave its request, or as text the filter before the server; 0: none."""
    told = parameters.get(ABORT_KEY, 0)
    key = int(told) if isinstance(told, str) and re.fullmatch(r"[0-9]{19}", told) else told
    return key if isinstance(key, int) and 1 << 62 <= key < 1 << 63 else 0


def check_request_id(request_id: str) -> str:
    """The id as it came.

    Raises:
        InvalidRequest: it is too long, or could forge a line of a log.
    """
    if len(request_id) > MOST_ID_CHARACTERS or not request_id.isprintable():
        raise InvalidRequest(
            "a request's id has control characters or is too long",
            field="id",
            fix=f"Give at most {MOST_ID_CHARACTERS} printable characters, or none",
        )
    return request_id


def check_parameters(parameters: Mapping[str, Any], models: Collection[str]) -> None:
    """Refuse what is no parameter, and what one asks for that is not served.

    Args:
        models: the names that this deployment's models have.

    Raises:
        InvalidRequest: naming the parameter and the way out.
    """
    for name, value in parameters.items():
        if name == TOKENIZE or (name == ABORT_KEY and abort_key(parameters)):
            continue
        if name in NOT_SERVED:
            raise InvalidRequest("is not served", field=name, fix=NOT_SERVED[name])
        parameter = PARAMETERS.get(name)
        if parameter is None:
            near = difflib.get_close_matches(name, INPUT_BY_NAME, n=1, cutoff=0.8)
            fix = f"Did you mean {near[0]}?" if near else "docs/inputs.md lists what there is"
            raise InvalidRequest("is no parameter", field=name[:60], fix=fix)
        if name == "model" and value not in models:
            raise InvalidRequest(f"is another than was asked, got {value!r:.60}", field=name)
        if parameter.decision is Decision.NEUTRAL and name != "model" and value not in parameter.neutral:
            raise InvalidRequest(f"asks for what is not served, got {value!r:.40}", field=name, fix=parameter.doc)


def check_no_sequence(correlation_id: int | str) -> None:
    """Refuse a request that is one of a sequence.

    Raises:
        InvalidRequest: it has Triton's ``sequence_id``.
    """
    if correlation_id:
        check_parameters({"sequence_id": correlation_id}, ())


def timeout_ns(parameters: Mapping[str, Any], timeout_us: int, timeout_ms: int) -> int:
    """How long the answer is of use; 0: for ever. The shortest given counts.

    Args:
        timeout_us: Triton's own, of the request.
        timeout_ms: the input of that name.

    Raises:
        InvalidRequest: the parameter ``timeout`` is no number of microseconds.
    """
    told = parameters.get("timeout", 0)
    if isinstance(told, bool) or not isinstance(told, int) or told < 0:
        raise InvalidRequest(f"must be a whole number of microseconds, 0 or more, got {told!r:.40}", field="timeout")
    return min((each for each in (told * 1000, timeout_us * 1000, timeout_ms * 1_000_000) if each), default=0)
