"""The contract's sampling parameters as an OpenVINO GenAI GenerationConfig."""

import openvino_genai as genai

from contract.sampling import SamplingParams

_BELOW_1 = 1 - 2**-24  # it refuses a min_p of 1


def generation_config(sampling: SamplingParams, eos_token_ids: tuple[int, ...], seed: int) -> genai.GenerationConfig:
    """Translate one request.

    Args:
        sampling: with ``max_tokens`` set, and only features that OpenVinoEngine declares.
        eos_token_ids: the model's own end-of-sequence tokens.
        seed: used where the request has none.
    """
    ends = _ends(sampling, eos_token_ids)
    stops = stops_of(sampling, eos_token_ids)
    config = genai.GenerationConfig()
    config.max_new_tokens = sampling.max_tokens or 1
    config.min_new_tokens = sampling.min_tokens
    if ends:
        # Its ignore_eos would pass over the request's own stop tokens too, and the end must be among the stop tokens.
        config.eos_token_id = ends[0] if ends[0] in stops or not stops else min(stops)
    config.ignore_eos = not stops
    config.stop_token_ids = stops
    config.do_sample = not sampling.greedy
    if config.do_sample:
        config.temperature = 1.0 if sampling.temperature is None else sampling.temperature
        config.top_p = sampling.top_p
        config.min_p = min(sampling.min_p, _BELOW_1)
        if sampling.top_k:
            config.top_k = sampling.top_k
        config.rng_seed = (seed if sampling.seed is None else sampling.seed) % 2**63
    config.repetition_penalty = sampling.repetition_penalty
    config.presence_penalty = sampling.presence_penalty
    config.frequency_penalty = sampling.frequency_penalty
    config.logprobs = int(sampling.return_log_probs)
    if sampling.guided_decoding_guide_type:
        config.structured_output_config = guide_config(sampling)
    return config


def stops_of(sampling: SamplingParams, eos_token_ids: tuple[int, ...]) -> set[int]:
    """Every token that ends this answer."""
    return {*sampling.stop_token_ids, *(() if sampling.ignore_eos else _ends(sampling, eos_token_ids))}


def _ends(sampling: SamplingParams, eos_token_ids: tuple[int, ...]) -> tuple[int, ...]:
    return eos_token_ids if sampling.end_id is None else (sampling.end_id,)


def guide_config(sampling: SamplingParams) -> genai.StructuredOutputConfig:
    """What the answer's text must be."""
    guide = genai.StructuredOutputConfig()
    match sampling.guided_decoding_guide_type:
        case "json":
            guide.json_schema = sampling.guided_decoding_guide or '{"type": "object"}'
        case "json_schema":
            guide.json_schema = sampling.guided_decoding_guide
        case "regex":
            guide.regex = sampling.guided_decoding_guide
        case "ebnf_grammar":
            guide.grammar = sampling.guided_decoding_guide
    return guide
