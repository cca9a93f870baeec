"""The contract's sampling parameters as SGLang's, and what ends an answer there."""

from dataclasses import dataclass
from typing import Any

from contract.errors import UnsupportedByEngine
from contract.sampling import SamplingParams

_GUIDES = {"json": "json_schema", "json_schema": "json_schema", "regex": "regex", "ebnf_grammar": "ebnf"}


@dataclass(frozen=True)
class Ends:
    """Who ends an answer.

    SGLang always stops at the model's own end of sequence, or, with its ``ignore_eos``, at no token at all. What lies
    between is watched for on our side, which costs the engine one step that nobody reads.
    """

    watched: frozenset[int]  # by us; SGLang then has ignore_eos
    told: tuple[int, ...]  # to SGLang

    @property
    def ignored(self) -> bool:
        """Whether SGLang is to end at no token."""
        return not self.told


def ends_of(sampling: SamplingParams, eos_token_ids: tuple[int, ...]) -> Ends:
    """What ends this answer, and who sees it.

    Args:
        sampling: of the request.
        eos_token_ids: the model's own end-of-sequence tokens.
    """
    if not sampling.ignore_eos and sampling.end_id in (None, *eos_token_ids):
        return Ends(frozenset(), tuple(sorted({*sampling.stop_token_ids, *eos_token_ids})))
    named = set(sampling.stop_token_ids)
    if sampling.end_id is not None and not sampling.ignore_eos:
        named.add(sampling.end_id)
    return Ends(frozenset(named), ())


def sglang_sampling(sampling: SamplingParams, ends: Ends) -> dict[str, Any]:
    """Translate one request; what it does not ask for is left to SGLang.

    Args:
        sampling: with ``max_tokens`` set, and only features that the deployment has.
        ends: as :func:`ends_of` found them.

    Raises:
        UnsupportedByEngine: min_tokens with an end of sequence that SGLang does not see.
    """
    if sampling.min_tokens and ends.watched:
        raise UnsupportedByEngine(
            "goes with the model's own end of sequence only in the sglang engine",
            field="min_tokens",
            fix="Leave it out, or end_id, or stop_token_ids beside ignore_eos",
        )
    wanted: dict[str, Any] = {
        "max_new_tokens": sampling.max_tokens,
        "temperature": 0.0 if sampling.greedy else 1.0 if sampling.temperature is None else sampling.temperature,
        "ignore_eos": ends.ignored,
    }
    if ends.told:
        wanted["stop_token_ids"] = list(ends.told)
    if sampling.min_tokens:
        wanted["min_new_tokens"] = sampling.min_tokens
    for name, off in (
        ("top_p", 1),
        ("min_p", 0),
        ("repetition_penalty", 1),
        ("presence_penalty", 0),
        ("frequency_penalty", 0),
    ):
        if (value := getattr(sampling, name)) != off:
            wanted[name] = value
    if sampling.top_k:
        wanted["top_k"] = sampling.top_k
    if sampling.logit_bias:
        wanted["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    if sampling.seed is not None:
        wanted["sampling_seed"] = sampling.seed % 2**63  # a tensor of int64 there
    if kind := sampling.guided_decoding_guide_type:
        wanted[_GUIDES.get(kind, "structural_tag")] = sampling.guided_decoding_guide or '{"type": "object"}'
    return wanted
