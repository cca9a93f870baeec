"""NVIDIA's inflight_batcher_llm repository as it stands on disk: its config.pbtxt files, and the engine's own config.

A template whose ``${…}`` nobody filled is no protobuf text yet: what stands outside quotes is taken out before it is
parsed, what stands in quotes counts as not given, as TensorRT-LLM's backend itself takes it.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from contract.errors import BuildError

MODELS = ("preprocessing", "tensorrt_llm", "postprocessing", "ensemble", "tensorrt_llm_bls")

_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")
_COMMENT = re.compile(r'^((?:[^"#\n]|"[^"\n]*")*)#.*$', re.MULTILINE)
# A field, or a list, whose value is a placeholder outside quotes.
_BARE = re.compile(r"\w+\s*:\s*(?:\[\s*\$\{\w+\}\s*\]|\$\{\w+\})\s*,?")


@dataclass(frozen=True)
class Model:
    """One of the five."""

    name: str
    config: pb.ModelConfig
    unfilled: tuple[str, ...]  # placeholders, in the file's order

    @property
    def parameters(self) -> dict[str, str]:
        """Those that are given."""
        values = {key: value.string_value.strip() for key, value in self.config.parameters.items()}
        return {key: value for key, value in values.items() if value and not _PLACEHOLDER.search(value)}


@dataclass(frozen=True)
class Repository:
    """The models that are there, and what the engine says of itself where it can be read."""

    folder: Path
    models: dict[str, Model]
    engine: dict[str, Any] = field(default_factory=dict)  # config.json of trtllm-build


def read_repository(folder: Path) -> Repository:
    """Read the repository that ``folder`` is, or is the parent of.

    Raises:
        BuildError: there is none, or a file is no config.pbtxt.
    """
    inner = folder / "inflight_batcher_llm"
    folder = inner if inner.is_dir() else folder
    if not (folder / "tensorrt_llm" / "config.pbtxt").is_file():
        raise BuildError(
            f"{folder} is no inflight_batcher_llm repository: it has no tensorrt_llm/config.pbtxt",
            fix="FROM= names the folder of preprocessing, tensorrt_llm, postprocessing and ensemble",
        )
    paths = {name: folder / name / "config.pbtxt" for name in MODELS}
    models = {name: _read(name, path) for name, path in paths.items() if path.is_file()}
    given = models["tensorrt_llm"].parameters.get("gpt_model_path", "")
    return Repository(folder, models, _engine_config(Path(given)) if given else {})


def _read(name: str, path: Path) -> Model:
    try:
        text = _COMMENT.sub(r"\1", path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError(f"{path} cannot be read: {error}") from None
    unfilled = tuple(dict.fromkeys(_PLACEHOLDER.findall(text)))
    try:
        config = text_format.Parse(_BARE.sub(_same_lines, text), pb.ModelConfig())
    except text_format.ParseError as error:
        raise BuildError(f"{path}:{error}", fix="Triton could not load it either: correct it first") from None
    return Model(name, config, unfilled)


def _same_lines(found: re.Match[str]) -> str:
    """Nothing, but with the line breaks of what was there, so that errors name the right line."""
    return "\n" * found[0].count("\n")


def _engine_config(engine: Path) -> dict[str, Any]:
    """What trtllm-build wrote beside the engine; {} where it cannot be read here."""
    try:
        found = json.loads((engine / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
