"""The contract's sampling parameters as LMDeploy's GenerationConfig, for both its engines."""

import json
from typing import Any

from contract.errors import InvalidRequest
from contract.sampling import SamplingParams


def ends_of(sampling: SamplingParams, eos_token_ids: tuple[int, ...]) -> list[int]:
    """The tokens that end this answer: LMDeploy's engines know of no other.

    Args:
        sampling: of the request.
        eos_token_ids: the model's own end-of-sequence tokens.
    """
    ends = (sampling.end_id,) if sampling.end_id is not None else eos_token_ids
    # A guide that is fulfilled leaves nothing to say but the model's end of sequence, whatever was to be ignored.
    own = eos_token_ids if sampling.guided_decoding_guide_type else ()
    return sorted({*sampling.stop_token_ids, *own, *(() if sampling.ignore_eos else ends)})


def lmdeploy_sampling(sampling: SamplingParams, ends: list[int], seed: int) -> dict[str, Any]:
    """Translate one request.

    Args:
        sampling: with ``max_tokens`` set, and only features that the deployment has.
        ends: as :func:`ends_of` found them.
        seed: used where the request has none: TurboMind's own is the same for every request.

    Raises:
        InvalidRequest: a structural tag that is no JSON object.
    """
    wanted: dict[str, Any] = {
        "max_new_tokens": sampling.max_tokens,
        "do_sample": not sampling.greedy,
        # Its ignore_eos forbids the tokens that it ignores; here none is named that does not count.
        "ignore_eos": False,
        "stop_token_ids": ends,
        "min_new_tokens": sampling.min_tokens,
        "repetition_penalty": sampling.repetition_penalty,
        "random_seed": seed if sampling.seed is None else sampling.seed,
        "temperature": 1.0,
        "top_k": 1,
    }
    if not sampling.greedy:
        wanted |= {
            "temperature": 1.0 if sampling.temperature is None else sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
        }
    if sampling.return_log_probs or sampling.logprobs:
        wanted["logprobs"] = max(1, sampling.logprobs)
    if sampling.guided_decoding_guide_type:
        wanted["response_format"] = response_format(sampling)
    return wanted


def response_format(sampling: SamplingParams) -> dict[str, Any]:
    """What the answer's text must be.

    Raises:
        InvalidRequest: a structural tag that is no JSON object.
    """
    guide = sampling.guided_decoding_guide
    match sampling.guided_decoding_guide_type:
        case "json" if not guide:
            return {"type": "json_object"}
        case "json" | "json_schema":
            return {"type": "json_schema", "json_schema": {"name": "guide", "schema": guide}}
        case "regex":
            return {"type": "regex_schema", "regex_schema": guide}
    try:
        tag = json.loads(guide)
    except ValueError:
        tag = None
    if not isinstance(tag, dict):
        raise InvalidRequest("must be a JSON object", field="guided_decoding_guide")
    return {**tag, "type": "structural_tag"}
