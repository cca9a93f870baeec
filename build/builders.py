"""One builder a runtime: a module or an object with these names. The chain knows no other thing of a runtime."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from contract.engines.kinds import Runtime
from contract.manifest import GpuTarget
from contract.spec import Deployment


@dataclass(frozen=True)
class Script:
    """What an engine is asked for its verification."""

    windows: list[list[int]]  # text; asked for the most likely token after each of its tokens
    prompts: list[list[int]]  # asked to go on
    max_tokens: int  # after each prompt, whatever comes


@dataclass(frozen=True)
class Replay:
    """What an engine says where the reference has spoken."""

    top1: list[dict[int, int]]  # of each window: position → the most likely next token
    loss: float | None  # mean negative log likelihood of the windows, nats a token; none: the engine does not tell
    greedy: list[list[int]]  # after each prompt


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


_STRIDE = 4  # of the windows every fourth position is asked for: each is a request of its own
Ask = Callable[[list[tuple[list[int], int]]], list[list[int]]]  # prompts, and how many tokens after each → the tokens


def replay_by_prefixes(script: Script, ask: Ask) -> Replay:
    """Teacher forcing of an engine that only generates: a request of one token for each prefix, and so no loss."""
    positions = [range(0, len(window), _STRIDE) for window in script.windows]
    prefixes = [
        (window[: position + 1], 1)
        for window, asked in zip(script.windows, positions, strict=True)
        for position in asked
    ]
    ahead = iter(ask(prefixes + [(prompt, script.max_tokens) for prompt in script.prompts]))
    top1 = [{position: next(ahead)[0] for position in asked} for asked in positions]
    return Replay(top1, None, list(ahead))


_MODULES: dict[Runtime, str] = {"openvino": "build.openvino", "trtllm": "build.trtllm.builder"}


def builder_of(runtime: Runtime) -> Builder:
    """A runtime's builder; only that one is imported."""
    if runtime in _MODULES:
        return cast(Builder, importlib.import_module(_MODULES[runtime]))
    from build.as_is import AsIs

    return cast(Builder, AsIs(runtime))
