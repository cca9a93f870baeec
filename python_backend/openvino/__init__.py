"""OpenVINO GenAI behind the engine protocol."""

from pathlib import Path

from contract.sampling import GUIDES
from contract.sections import EngineSpec
from python_backend.engines import Compiler
from python_backend.features import MIN_P, RESUMING, SCORING, USUAL

# It tells the chosen token's probability alone; of a prompt's tokens, a second model does (scoring.py).
FEATURES = (USUAL | MIN_P | {"return_log_probs"} | SCORING | RESUMING | GUIDES) - {
    "guided_decoding_guide_type:structural_tag"
}


def features(engine: EngineSpec) -> frozenset[str]:
    """The same for all."""
    return FEATURES


def compiler(engine: Path) -> Compiler:
    """A pipeline without weights."""
    from python_backend.openvino.scratch import ScratchPipeline

    return ScratchPipeline(engine)
