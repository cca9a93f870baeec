"""What each engine can do with a request: one declaration a runtime, in the names of ``contract.sampling``.

Apart from the engines, so that it can be read where none of them is installed (docs/engines.md is made from it). A
request that asks for anything else is refused by name before prefill.
"""

from collections.abc import Callable

from contract.sampling import GUIDES
from contract.spec import EngineSpec, Runtime

_CHOOSING = frozenset({"temperature", "top_k", "top_p"})
_ENDING = frozenset({"ignore_eos", "stop_token_ids"})
_PENALTIES = frozenset({"repetition_penalty", "presence_penalty", "frequency_penalty"})
_WORDS = frozenset({"bad_words", "logit_bias"})
_LOG_PROBS = frozenset({"return_log_probs", "logprobs"})
_USUAL = _CHOOSING | _ENDING | _PENALTIES | {"min_tokens", "seed"}

SYNTHETIC = _CHOOSING | {"seed", "ignore_eos"}
# It tells the chosen token's probability alone.
OPENVINO = _USUAL | {"return_log_probs"} | (GUIDES - {"guided_decoding_guide_type:structural_tag"})
VLLM = _USUAL | _WORDS | _LOG_PROBS | GUIDES


def _trtllm(engine: EngineSpec) -> frozenset[str]:
    options = engine.trtllm
    # The sampler of 1.2's PyTorch path has neither penalties nor a seed of each request.
    found = _USUAL if options.backend == "tensorrt" else _CHOOSING | _ENDING
    if options.log_probs:
        found |= _LOG_PROBS
    if options.guided_decoding:
        found |= GUIDES
    if options.lora:
        found |= {"lora_name"}
    return found


_OF: dict[Runtime, Callable[[EngineSpec], frozenset[str]]] = {
    "openvino": lambda _: OPENVINO,
    "synthetic": lambda _: SYNTHETIC,
    "trtllm": _trtllm,
    "vllm": lambda _: VLLM,
}


def features_of(engine: EngineSpec) -> frozenset[str]:
    """What requests to a deployment's engine may ask for."""
    return _OF[engine.runtime](engine)
