"""The contract's sampling parameters as vLLM's."""

from typing import Any

from vllm import SamplingParams as VllmSampling
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

from contract.sampling import SamplingParams


def vllm_sampling(sampling: SamplingParams, eos_token_ids: tuple[int, ...]) -> VllmSampling:
    """Translate one request.

    vLLM's own end-of-sequence handling is off: the tokens that end this answer are all named, the model's among them,
    so that ``end_id`` can replace those.

    Args:
        sampling: with ``max_tokens`` set, and only features that VllmEngine declares.
        eos_token_ids: the model's own end-of-sequence tokens.

    Raises:
        ValueError: vLLM refuses a value.
    """
    ends = (sampling.end_id,) if sampling.end_id is not None else eos_token_ids
    stops = sorted({*sampling.stop_token_ids, *(() if sampling.ignore_eos else ends)})
    asked = sampling.return_log_probs or sampling.logprobs
    return VllmSampling(
        max_tokens=sampling.max_tokens,
        min_tokens=sampling.min_tokens,
        temperature=0.0 if sampling.greedy else 1.0 if sampling.temperature is None else sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        seed=None if sampling.seed is None else sampling.seed % 2**63,
        ignore_eos=True,
        stop_token_ids=stops,
        bad_words=list(sampling.bad_words) or None,
        logit_bias=dict(sampling.logit_bias) or None,
        logprobs=sampling.logprobs if asked else None,
        prompt_logprobs=sampling.prompt_logprobs,
        structured_outputs=guide(sampling),
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )


def guide(sampling: SamplingParams) -> StructuredOutputsParams | None:
    """What the answer's text must be."""
    text = sampling.guided_decoding_guide
    named: dict[str, Any] = {
        "json": {"json": text or '{"type": "object"}'},
        "json_schema": {"json": text},
        "regex": {"regex": text},
        "ebnf_grammar": {"grammar": text},
        "structural_tag": {"structural_tag": text},
    }
    kind = sampling.guided_decoding_guide_type
    return StructuredOutputsParams(**named[kind]) if kind else None
