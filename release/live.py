"""The deployment that is served now: what its supervisor tells, and what its model repository says that it serves."""

from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from contract.errors import ServeError
from contract.spec import Deployment
from contract.stage import StageConfig, run_dir
from contract.state import Phase, State, read_state
from contract.tensors import stage_names
from contract.unary import PARAMETER


@dataclass(frozen=True)
class Live:
    """A deployment that runs under ``root``."""

    root: Path
    name: str

    @property
    def run_dir(self) -> Path:
        """Its run folder."""
        return run_dir(self.root, self.name)

    @property
    def state(self) -> State:
        """What its supervisor told last.

        Raises:
            ServeError: it is gone.
        """
        state = read_state(self.run_dir)
        if state is None:
            raise ServeError(f"{self.name} is not served any more", fix="make up starts it, with the version it had")
        return state

    def serves(self) -> StageConfig:
        """The spec and the engine that its stages were started with.

        Raises:
            ServeError: it is not served.
        """
        path = self.root / "model_repository" / self.name / stage_names(self.name)[1] / "config.pbtxt"
        try:
            model = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
        except OSError as error:
            raise ServeError(f"{path} cannot be read: {error.strerror}", fix="make up writes it") from None
        return StageConfig.from_json(model.parameters[PARAMETER].string_value)


def live_deployment(root: Path, wanted: Deployment, config: Path) -> Live:
    """The deployment that a version is for.

    Raises:
        ServeError: it is not served, or the version changes what a release cannot.
    """
    live = Live(root, wanted.name)
    state = read_state(live.run_dir)
    if state is None or state.phase is not Phase.READY:
        doing = "not served" if state is None else f"{state.phase} now"
        raise ServeError(
            f"{wanted.name} is {doing}", fix=f"A release is beside a server that runs: make up CONFIG={config}"
        )
    serves = live.serves().spec
    if not serves.gateway.enabled:
        raise ServeError("gateway.enabled is false: a release shares the traffic there", fix="make down, then make up")
    if wanted.cluster or serves.cluster:
        raise ServeError("cluster is set: a release is for a deployment of one machine")
    for section in ("ports", "gateway", "tracing"):
        before, after = (getattr(each, section).model_dump() for each in (serves, wanted))
        changed = [f"{section}.{key}" for key in before if before[key] != after[key]]
        if changed:
            raise ServeError(
                f"{', '.join(changed)}: a release keeps the doors as they are", fix="make down and make up change them"
            )
    return live
