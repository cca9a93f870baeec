"""HTTP clients of Triton's ``generate`` and ``generate_stream``, on the standard library alone.

Leaving a stream early closes its connection, which cancels the request at the next delta.
"""

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from clients.request import Answer, Delta, inputs_of, joined
from contract.errors import DeadlineExceeded, Unavailable, from_wire
from contract.tensors import ENSEMBLE_ALIAS


def generate(
    prompt: str | None = None,
    *,
    address: str = "127.0.0.1:8000",
    model: str = ENSEMBLE_ALIAS,
    timeout_s: float | None = None,
    **options: Any,
) -> Answer:
    """The whole answer over ``POST /v2/models/MODEL/generate``.

    Args:
        timeout_s: the longest silence, in seconds, before giving up.
        options: any input of the ensemble by its name.

    Raises:
        RequestError: refused, failed, late, or no server: see contract.errors.
    """
    with closing(http.client.HTTPConnection(address, timeout=timeout_s)) as connection:
        body = inputs_of(prompt, options, stream=False)
        response = _post(connection, f"/v2/models/{model}/generate", body)
        delta = _delta(_parsed(response.read()))
    return joined([delta])


def stream(
    prompt: str | None = None,
    *,
    address: str = "127.0.0.1:8000",
    model: str = ENSEMBLE_ALIAS,
    timeout_s: float | None = None,
    **options: Any,
) -> Iterator[Delta]:
    """The answer's deltas over ``generate_stream`` (server-sent events). Arguments as :func:`generate`."""
    with closing(http.client.HTTPConnection(address, timeout=timeout_s)) as connection:
        body = inputs_of(prompt, options, stream=True)
        response = _post(connection, f"/v2/models/{model}/generate_stream", body)
        try:
            for line in response:
                if line.startswith(b"data:"):
                    yield _delta(_parsed(line[5:]))
                elif line.startswith(b"{"):  # a refusal before the first event
                    _parsed(line)
        except TimeoutError:
            raise DeadlineExceeded(f"no event for {timeout_s} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"the connection to {address} broke: {error}") from None


def _post(connection: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> http.client.HTTPResponse:
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return connection.getresponse()
    except TimeoutError:
        raise DeadlineExceeded(f"no answer within {connection.timeout} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"no server at {connection.host}:{connection.port}: {error}") from None


def _parsed(raw: bytes) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(raw)
    if "error" in event:
        raise from_wire(event["error"])
    return event


def _delta(event: dict[str, Any]) -> Delta:
    """Triton unpacks arrays of one element, so a number may stand for a list."""
    return Delta(
        text=event.get("text_output", ""),
        output_ids=_tuple(event.get("output_ids", ())),
        finish_reason=event.get("finish_reason", ""),
        matched_stop=event.get("matched_stop", ""),
        num_input_tokens=event.get("num_input_tokens", 0),
        num_output_tokens=event.get("num_output_tokens", 0),
        log_probs=_tuple(event.get("output_log_probs", ())),
        prompt_log_probs=_tuple(event.get("prompt_log_probs", ())),
    )


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)
