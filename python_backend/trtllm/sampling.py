"""The contract's sampling parameters as TensorRT-LLM's, as a call (contract/engines/trtllm/calls.py)."""

from typing import Any

from contract.engines.trtllm.calls import Call
from contract.sampling import SamplingParams


def sampling_call(sampling: SamplingParams, eos_token_ids: tuple[int, ...], seed: int) -> Call:
    """Translate one request; what it does not ask for is left to TensorRT-LLM.

    Args:
        sampling: with ``max_tokens`` set, and only features that the deployment has.
        eos_token_ids: the model's own end-of-sequence tokens.
        seed: used where the request has none: TensorRT-LLM's own is the same for every request.
    """
    ends = (sampling.end_id,) if sampling.end_id is not None else eos_token_ids
    others = () if sampling.ignore_eos else ends[1:]
    arguments: dict[str, Any] = {
        "max_tokens": sampling.max_tokens,
        "end_id": ends[0] if ends else -1,  # without a tokenizer it must be given
        "pad_id": ends[0] if ends else -1,
        "ignore_eos": sampling.ignore_eos,
        "detokenize": False,  # text is postprocess's
        # Else the ids of what ended the answer are taken back with the last response.
        "include_stop_str_in_output": True,
    }
    if stops := [*sampling.stop_token_ids, *others]:
        arguments["stop_token_ids"] = stops
    if not sampling.greedy:
        # A temperature alone would still be greedy: TensorRT-LLM's own top_p is 0.
        arguments |= {
            "temperature": 1.0 if sampling.temperature is None else sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "seed": seed if sampling.seed is None else sampling.seed,
        }
        if sampling.min_p:
            arguments["min_p"] = sampling.min_p
    if sampling.min_tokens:
        arguments["min_tokens"] = sampling.min_tokens
    for name, off in (("repetition_penalty", 1), ("presence_penalty", 0), ("frequency_penalty", 0)):
        if (value := getattr(sampling, name)) != off:
            arguments[name] = value
    if sampling.return_log_probs or sampling.logprobs:
        arguments["logprobs"] = max(1, sampling.logprobs)
    if sampling.guided_decoding_guide_type:
        arguments["guided_decoding"] = guide_call(sampling)
    return Call("SamplingParams", arguments)


def guide_call(sampling: SamplingParams) -> Call:
    """What the answer's text must be."""
    guide = sampling.guided_decoding_guide
    match sampling.guided_decoding_guide_type:
        case "json" if not guide:
            return Call("GuidedDecodingParams", {"json_object": True})
        case "json" | "json_schema":
            return Call("GuidedDecodingParams", {"json": guide})
        case "regex":
            return Call("GuidedDecodingParams", {"regex": guide})
        case "ebnf_grammar":
            return Call("GuidedDecodingParams", {"grammar": guide})
        case _:
            return Call("GuidedDecodingParams", {"structural_tag": guide})
