"""One builder a runtime: a module with these names. The chain knows no other thing of a runtime."""

import importlib
from pathlib import Path
from typing import Protocol, cast

from contract.spec import EngineSpec, Runtime


class Builder(Protocol):
    """How a runtime's engine is made and tried."""

    PACKAGES: tuple[str, ...]  # whose versions the engine's bytes depend on
    RECIPE: int  # raised whenever build() changes what it writes

    def build(self, checkpoint: Path, engine: EngineSpec, folder: Path) -> None:
        """Write the engine, tokenizer included, into ``folder``."""

    def forced(self, engine: Path, spec: EngineSpec, windows: list[list[int]]) -> tuple[list[list[int]], float]:
        """Teacher forcing: the engine's most likely token at each position, and its mean loss in nats a token."""

    def greedy(self, config: Path, engine: Path, prompts: list[list[int]], max_tokens: int) -> list[list[int]]:
        """``max_tokens`` greedy tokens after each prompt, by what will serve."""


_MODULES: dict[Runtime, str] = {"openvino": "build.openvino", "vllm": "build.vllm"}


def builder_of(runtime: Runtime) -> Builder:
    """A runtime's builder; only that one is imported."""
    return cast(Builder, importlib.import_module(_MODULES[runtime]))
