"""The engines' folders: a package of a runtime's name says what the engine can do, its ``engine.create`` makes one."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

from contract.engines.kinds import Runtime
from contract.errors import Unavailable
from contract.sampling import SamplingParams
from contract.sections import EngineSpec
from contract.spec import Deployment
from python_backend.protocol import Engine


class Compiler(Protocol):
    """What compiles guides as an engine will, beside it, and can be lost."""

    def compile(self, sampling: SamplingParams) -> None:
        """Compile a request's guide.

        Raises:
            RuntimeError, ValueError: the engine would fail on it.
        """


class Folder(Protocol):
    """What such a package has in its ``__init__``, which can be read where the engine is not installed."""

    compiler: Callable[[Path], Compiler] | None  # of an engine that a guide could break, by its folder

    def features(self, engine: EngineSpec) -> frozenset[str]:
        """What requests to a deployment's engine may ask for, but adapters, which the spec tells."""


def folder_of(runtime: Runtime) -> Folder:
    """A runtime's; only that one is imported."""
    return cast(Folder, importlib.import_module(f"python_backend.{runtime}"))


def features_of(engine: EngineSpec) -> frozenset[str]:
    """What requests to a deployment's engine may ask for."""
    found = folder_of(engine.runtime).features(engine)
    return found | {"lora_name"} if engine.lora else found


def make(engine: Path | None, spec: Deployment) -> Engine:
    """A deployment's engine, bare: no gate is before it, and it runs in this process.

    Args:
        engine: its folder, where it has weights.

    Raises:
        Unavailable: it is not installed here.
    """
    runtime = spec.engine.runtime
    try:
        module = importlib.import_module(f"python_backend.{runtime}.engine")
    except ModuleNotFoundError as missing:
        if missing.name != runtime:
            raise
        raise Unavailable(f"{spec.engine.kind.title} is not installed here", fix=f"Run make {runtime}") from None
    return cast(Engine, module.create(engine, spec))
