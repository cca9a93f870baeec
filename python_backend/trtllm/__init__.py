"""TensorRT-LLM's LLM API behind the engine protocol, for engines and for its PyTorch path alike."""

from contract.sampling import GUIDES
from contract.sections import EngineSpec
from python_backend.features import CHOOSING, ENDING, LOG_PROBS, MIN_P, USUAL

compiler = None  # nothing here compiles as it does


def features(engine: EngineSpec) -> frozenset[str]:
    """By its options; the sampler of 1.2's PyTorch path has neither penalties nor a seed of each request."""
    options = engine.trtllm
    found = USUAL | MIN_P if options.backend == "tensorrt" else CHOOSING | ENDING
    if options.log_probs:
        found |= LOG_PROBS
    return found | GUIDES if options.guided_decoding else found
