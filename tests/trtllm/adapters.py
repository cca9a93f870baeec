"""Adapters as PEFT writes them, of no weight."""

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def write_adapter(folder: Path, modules: Sequence[str] = ("q_proj", "v_proj"), **described: Any) -> Path:
    """One that changes these modules of the first layer; what is described beside them goes to adapter_config.json."""
    folder.mkdir(parents=True)
    names = [f"base_model.model.model.layers.0.x.{each}.lora_{half}.weight" for each in modules for half in "AB"]
    header = json.dumps({name: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for name in names}).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    config = {"peft_type": "LORA", "r": 8, "target_modules": list(modules)} | described
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
