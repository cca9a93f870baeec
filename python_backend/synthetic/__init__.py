"""An engine without a model: it echoes the prompt at a given pace, for soaks and pipeline benches."""

from contract.sections import EngineSpec
from python_backend.features import CHOOSING, RESUMING, SCORING

compiler = None
FEATURES = CHOOSING | {"seed", "ignore_eos"} | SCORING | RESUMING


def features(engine: EngineSpec) -> frozenset[str]:
    """The same for all."""
    return FEATURES
