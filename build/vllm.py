"""The builder of runtime vllm: its engine is the checkpoint too, and it tells the probabilities of a given text."""

from pathlib import Path

from build.as_is import AsIs
from build.replay import Replay, Script
from contract import programs
from contract.checkout import ROOT
from contract.spec import Deployment


class Vllm(AsIs):
    """Installed in an environment of its own, and nowhere else."""

    @property
    def python(self) -> Path:
        """Its environment's."""
        return ROOT / ".venv-vllm" / "bin" / "python"

    def replay(self, config: Path, spec: Deployment, engine: Path, script: Script) -> Replay:
        """What vLLM says along the script.

        Raises:
            BuildError: it does not run the engine.
        """
        engine_spec = spec.engine.model_dump(mode="json")
        forced = {"spec": engine_spec, "forced": script.windows}
        greedy = {"spec": engine_spec, "prompts": script.prompts, "max_tokens": script.max_tokens}
        said, answers = self._ask(programs.RAW_VLLM, engine, forced, greedy)
        return Replay([dict(enumerate(row)) for row in said["top1"]], said["loss"], answers["ids"])
