"""Adapters in Hugging Face's PEFT format: refused where they cannot be used, copied beside the engine that has them."""

import shutil
from pathlib import Path

from build.fetch import read_json, source_key
from contract.lora import ADAPTERS, Lora
from contract.sections import PathSource


def adapters_key(lora: Lora | None) -> list[tuple[str, str]]:
    """What an engine's bytes depend on of them."""
    adapters = sorted(lora.adapters.items()) if lora else []
    return [(name, source_key(PathSource(kind="path", path=path))) for name, path in adapters]


def adapter_fault(lora: Lora | None, section: str) -> str:
    """What is wrong with the first that cannot be used, and what to do; '' if all can.

    Args:
        section: the spec's, where they are named.
    """
    for name, path in (lora.adapters if lora else {}).items():
        described = path.expanduser() / "adapter_config.json"
        if not described.exists():
            return f"{section}.adapters.{name}: no adapter_config.json in {path}. Name an adapter of PEFT"
        rank = int(read_json(described).get("r", 0))
        if lora and rank > lora.max_rank:
            return f"{section}.adapters.{name} has rank {rank}, {section}.max_rank is {lora.max_rank}. Raise it"
    return ""


def place_adapters(lora: Lora | None, folder: Path) -> None:
    """Copies in an engine's folder, each by its name."""
    for name, path in (lora.adapters if lora else {}).items():
        shutil.copytree(path.expanduser(), folder / ADAPTERS / name)
