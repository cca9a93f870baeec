"""A model that guesses ahead: refused where it is none, copied beside the engine that it guesses for."""

import shutil
from pathlib import Path

from build.fetch import source_key
from contract.engines.speculative import DRAFT
from contract.sections import EngineSpec, PathSource


def draft_key(engine: EngineSpec) -> list[str]:
    """What an engine's bytes depend on of it."""
    return [source_key(PathSource(kind="path", path=engine.draft))] if engine.draft else []


def draft_fault(engine: EngineSpec) -> str:
    """Why it cannot be used, and what to do; '' if it can, or there is none."""
    if engine.draft is None or (engine.draft.expanduser() / "config.json").exists():
        return ""
    section = f"engine.{engine.runtime}.speculative.model"
    return f"{section}: no config.json in {engine.draft}. Name the draft model's folder"


def place_draft(engine: EngineSpec, folder: Path) -> None:
    """A copy in an engine's folder."""
    if engine.draft:
        shutil.copytree(engine.draft.expanduser(), folder / DRAFT)
