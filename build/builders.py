"""One builder a runtime: a module or an object with these names. The chain knows no other thing of a runtime."""

from pathlib import Path
from typing import Any, Protocol, cast

from build import openvino
from build.as_is import AsIs
from build.replay import Replay, Script
from build.trtllm import builder as trtllm
from build.vllm import Vllm
from contract.engines.kinds import Runtime
from contract.manifest import GpuTarget
from contract.spec import Deployment


class Builder(Protocol):
    """How a runtime's engine is made and tried."""

    PACKAGES: tuple[str, ...]  # of this environment, whose versions the engine's bytes depend on
    RECIPE: int  # raised whenever build() changes what it writes
    SIZE: int  # of what build() writes, at most, in sizes of the checkpoint

    def key(self, spec: Deployment) -> tuple[Any, ...]:
        """What else of the spec and the machine the engine's bytes depend on.

        Raises:
            BuildError: this machine cannot build it.
        """

    def check(self, checkpoint: Path, spec: Deployment) -> None:
        """Refuse what cannot be built; the checkpoint may have no more than its JSON files yet.

        Raises:
            BuildError: with the reason.
        """

    def command(self, checkpoint: Path, spec: Deployment, folder: Path) -> list[str]:
        """What build() would run outside this process; nothing is run."""

    def build(self, checkpoint: Path, spec: Deployment, folder: Path) -> None:
        """Write the engine, tokenizer included, into ``folder``."""

    def built_with(self, folder: Path) -> dict[str, str]:
        """Packages and versions that made an engine, beside PACKAGES."""

    def target(self, folder: Path, spec: Deployment) -> GpuTarget | None:
        """The GPUs that an engine was built for."""

    def replay(self, config: Path, spec: Deployment, engine: Path, script: Script) -> Replay:
        """What the engine says along the script, by what will serve."""


# What makes an engine otherwise than as_is.py.
_BUILDERS: dict[Runtime, object] = {"openvino": openvino, "trtllm": trtllm, "vllm": Vllm("vllm")}


def builder_of(runtime: Runtime) -> Builder:
    """A runtime's builder."""
    return cast(Builder, _BUILDERS.get(runtime) or AsIs(runtime))
