"""What a release is judged by: a line for each request that ended while it was on."""

from contextlib import suppress
from pathlib import Path

import msgspec

from contract.errors import REQUEST_ERRORS
from contract.rollout import OBSERVED, Observed, release_folder
from gateway.journey import Journey

_FAULTS = {error.codes.code for error in REQUEST_ERRORS.values() if error.codes.http >= 500}
_LEFT = ("client_left", REQUEST_ERRORS["cancelled"].codes.code)
_encode = msgspec.json.Encoder().encode


def observe(run_dir: Path, journey: Journey, now: float) -> None:
    """Note how a request ended, if that says anything of the version that was asked."""
    failed = journey.by_another or journey.finish_reason in _FAULTS
    answered = journey.status == 200 and journey.finish_reason not in _LEFT
    if not journey.admitted or not (answered or failed):
        return
    tokens, first = journey.completion_tokens, journey.first_token
    seen = Observed(
        trial=journey.trial,
        failed=failed,
        finish_reason=journey.finish_reason,
        prompt_tokens=journey.prompt_tokens,
        completion_tokens=tokens,
        ttft_s=first - journey.admitted if first else None,
        tpot_s=(now - first) / (tokens - 1) if first and tokens > 1 else None,
    )
    with suppress(OSError), (release_folder(run_dir, journey.release) / OBSERVED).open("ab") as lines:
        lines.write(_encode(seen) + b"\n")
