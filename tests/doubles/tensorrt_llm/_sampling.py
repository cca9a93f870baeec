"""The library's sampling parameters as those of the OpenVINO engine, whose tokens the double gives."""

import json
from typing import Any

from contract.sampling import SamplingParams as Sampling


def translated(params: Any) -> Sampling:
    """Greedy unless top_k or top_p says otherwise, as in TensorRT-LLM's C++ runtime."""
    sampled = (params.top_k is not None and params.top_k > 1) or bool(params.top_p)
    guide_type, guide = _guide(params.guided_decoding)
    endless = params.ignore_eos or params.end_id is None or params.end_id < 0
    return Sampling(
        max_tokens=params.max_tokens,
        min_tokens=params.min_tokens or 0,
        temperature=(1.0 if params.temperature is None else params.temperature) if sampled else 0.0,
        top_k=params.top_k or 0,
        top_p=params.top_p or 1.0,
        repetition_penalty=1.0 if params.repetition_penalty is None else params.repetition_penalty,
        presence_penalty=params.presence_penalty or 0.0,
        frequency_penalty=params.frequency_penalty or 0.0,
        seed=params.seed or 0,
        ignore_eos=endless,
        end_id=None if endless else params.end_id,
        stop_token_ids=tuple(params.stop_token_ids or ()),
        return_log_probs=bool(params.logprobs),
        guided_decoding_guide_type=guide_type,
        guided_decoding_guide=guide,
    )


def _guide(params: Any) -> tuple[str, str]:
    if params is None:
        return "", ""
    if params.json_object:
        return "json", ""
    for name, kind in (("json", "json_schema"), ("regex", "regex"), ("grammar", "ebnf_grammar")):
        if value := getattr(params, name):
            return kind, value if isinstance(value, str) else json.dumps(value)
    raise ValueError("the double has no structural tags")
