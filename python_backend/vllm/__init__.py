"""vLLM behind the engine protocol, in its own Python environment."""

from functools import partial

from contract.sampling import GUIDES
from contract.sections import EngineSpec
from python_backend.features import LOG_PROBS, MIN_P, RESUMING, SCORING, USUAL
from python_backend.scratch import ScratchCompiler

compiler = partial(ScratchCompiler, tags=False)  # vLLM checks those itself


def features(engine: EngineSpec) -> frozenset[str]:
    """All that requests can ask of any engine; where it speculates, vLLM itself refuses two."""
    found = USUAL | MIN_P | {"bad_words", "logit_bias"} | LOG_PROBS | SCORING | RESUMING | GUIDES
    return found - MIN_P - {"logit_bias"} if engine.vllm.speculative else found
