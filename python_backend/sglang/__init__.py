"""SGLang behind the engine protocol, in its own Python environment."""

from contract.sampling import GUIDES
from contract.sections import EngineSpec
from python_backend.features import CHOOSING, ENDING, LOG_PROBS, MIN_P, PENALTIES, RESUMING, SCORING
from python_backend.scratch import ScratchCompiler

compiler = ScratchCompiler


def features(engine: EngineSpec) -> frozenset[str]:
    """By its options."""
    options = engine.sglang
    found = CHOOSING | MIN_P | ENDING | PENALTIES | LOG_PROBS | SCORING | RESUMING | {"logit_bias"}
    if options.guided_decoding:  # SGLang compiles guides, and knows what ends a sequence, by its tokenizer
        found |= GUIDES | {"min_tokens"}
    if options.speculative:  # its verification leaves min_p out, and counts a penalty once a step, not once a token
        found -= MIN_P | PENALTIES | {"min_tokens"}
    return found | {"seed"} if options.deterministic else found  # else a seed counts for nothing
