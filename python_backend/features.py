"""What each engine can do with a request: one declaration a runtime, in the names of ``contract.sampling``.

Apart from the engines, so that it can be read where none of them is installed (docs/engines.md is made from it). A
request that asks for anything else is refused by name before prefill.
"""

from collections.abc import Callable

from contract.engines.kinds import Runtime
from contract.sampling import GUIDES
from contract.spec import EngineSpec

_CHOOSING = frozenset({"temperature", "top_k", "top_p"})
_MIN_P = frozenset({"min_p"})
_ENDING = frozenset({"ignore_eos", "stop_token_ids"})
_PENALTIES = frozenset({"repetition_penalty", "presence_penalty", "frequency_penalty"})
_WORDS = frozenset({"bad_words", "logit_bias"})
_LOG_PROBS = frozenset({"return_log_probs", "logprobs"})
_SCORING = frozenset({"prompt_logprobs"})
_USUAL = _CHOOSING | _ENDING | _PENALTIES | {"min_tokens", "seed"}

SYNTHETIC = _CHOOSING | {"seed", "ignore_eos"} | _SCORING
# It tells the chosen token's probability alone; of a prompt's tokens, a second model does (openvino/scoring.py).
OPENVINO = _USUAL | _MIN_P | {"return_log_probs"} | _SCORING | (GUIDES - {"guided_decoding_guide_type:structural_tag"})


def _trtllm(engine: EngineSpec) -> frozenset[str]:
    options = engine.trtllm
    # The sampler of 1.2's PyTorch path has neither penalties nor a seed of each request.
    found = _USUAL | _MIN_P if options.backend == "tensorrt" else _CHOOSING | _ENDING
    if options.log_probs:
        found |= _LOG_PROBS
    if options.guided_decoding:
        found |= GUIDES
    if options.lora:
        found |= {"lora_name"}
    return found


def _vllm(engine: EngineSpec) -> frozenset[str]:
    found = _USUAL | _MIN_P | _WORDS | _LOG_PROBS | _SCORING | GUIDES
    return found | {"lora_name"} if engine.vllm.lora else found


def _sglang(engine: EngineSpec) -> frozenset[str]:
    options = engine.sglang
    found = _CHOOSING | _MIN_P | _ENDING | _PENALTIES | _LOG_PROBS | _SCORING | {"logit_bias"}
    if options.guided_decoding:  # SGLang compiles guides, and knows what ends a sequence, by its tokenizer
        found |= GUIDES | {"min_tokens"}
    if options.deterministic:  # else a seed counts for nothing
        found |= {"seed"}
    if options.lora:
        found |= {"lora_name"}
    return found


def _lmdeploy(engine: EngineSpec) -> frozenset[str]:
    no_grammars = GUIDES - {"guided_decoding_guide_type:ebnf_grammar"}
    found = _CHOOSING | _MIN_P | _ENDING | _LOG_PROBS | no_grammars | {"min_tokens", "repetition_penalty", "seed"}
    if engine.lmdeploy.backend == "pytorch":  # TurboMind's answers have none of a prompt's
        found |= _SCORING
    return found | {"lora_name"} if engine.lmdeploy.lora else found


_OF: dict[Runtime, Callable[[EngineSpec], frozenset[str]]] = {
    "lmdeploy": _lmdeploy,
    "openvino": lambda _: OPENVINO,
    "sglang": _sglang,
    "synthetic": lambda _: SYNTHETIC,
    "trtllm": _trtllm,
    "vllm": _vllm,
}


def features_of(engine: EngineSpec) -> frozenset[str]:
    """What requests to a deployment's engine may ask for."""
    return _OF[engine.runtime](engine)
