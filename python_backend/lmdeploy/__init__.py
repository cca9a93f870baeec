"""LMDeploy's two engines, TurboMind and PyTorch, behind the engine protocol, in their own Python environment."""

from contract.sampling import GUIDES
from contract.sections import EngineSpec
from python_backend.features import CHOOSING, ENDING, LOG_PROBS, MIN_P, RESUMING, SCORING
from python_backend.scratch import ScratchCompiler

compiler = ScratchCompiler


def features(engine: EngineSpec) -> frozenset[str]:
    """By its backend: TurboMind's answers have no log probabilities of a prompt's tokens."""
    no_grammars = GUIDES - {"guided_decoding_guide_type:ebnf_grammar"}
    found = CHOOSING | MIN_P | ENDING | LOG_PROBS | RESUMING | no_grammars
    found |= {"min_tokens", "repetition_penalty", "seed"}
    return found | SCORING if engine.lmdeploy.backend == "pytorch" else found
