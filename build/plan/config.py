"""A model's config.json, from wherever MODEL points; a field that is needed and missing is refused by its name."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build.fetch import check_source, peek, read_json
from contract.errors import BuildError
from contract.sections import AnySource, HubSource, PathSource

_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
# Transformers' names of dtypes → safetensors'.
DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


@dataclass(frozen=True)
class Config:
    """What a config.json says."""

    name: str  # where it came from
    values: dict[str, Any]
    architecture: str
    quantization: dict[str, Any]  # {} without

    def number(self, *names: str, default: int | None = None) -> int:
        """A size, by the first of these names that is there.

        Raises:
            BuildError: there is none and no default.
        """
        for name in names:
            value = self.values.get(name)
            if isinstance(value, int) and not isinstance(value, bool):
                if value < 0:
                    raise BuildError(f"{self.name}: {name} is {value}", fix="Use the config.json as it was published")
                return value
            if value is not None:
                raise BuildError(f"{self.name}: {name} is {value!r} and must be a whole number", fix="Correct it")
        if default is None:
            raise BuildError(
                f"{self.name} has no {' or '.join(names)}, which {self.architecture} needs",
                fix="Use the config.json as it was published",
            )
        return default

    def size(self, *names: str) -> int:
        """A size that divides others, so never 0."""
        found = self.number(*names)
        if not found:
            raise BuildError(f"{self.name}: {names[0]} is 0", fix="Use the config.json as it was published")
        return found

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A switch."""
        value = self.values.get(name)
        return default if value is None else bool(value)

    @property
    def dtype(self) -> str:
        """Of the weights that are not quantized, by safetensors' name."""
        named = str(self.values.get("dtype") or self.values.get("torch_dtype") or "")
        if named not in DTYPES:
            raise BuildError(f"{self.name}: torch_dtype is {named or 'not given'}", fix=f"Known: {', '.join(DTYPES)}")
        return DTYPES[named]


def read_config(model: str) -> Config:
    """The config of a folder, a config.json or a repository of the hub, of which no weights are fetched.

    Raises:
        BuildError: there is none, or it is no causal language model's.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return _of_folder(path, str(path / "config.json"))
    if path.is_file():
        return _parsed(read_json(path), str(path))
    if _REPO.fullmatch(model):
        return read_source(HubSource(kind="huggingface", repo=model))
    raise BuildError(
        f"MODEL={model} is no folder, no config.json and no repository of the hub",
        fix="Write MODEL=path/to/config.json or MODEL=owner/name",
    )


def read_source(source: AnySource | None) -> Config:
    """The config of a deployment's checkpoint."""
    if isinstance(source, PathSource):
        check_source(source)
        return read_config(str(source.path))
    if isinstance(source, HubSource):
        with tempfile.TemporaryDirectory() as folder:
            peek(source, Path(folder), ("config.json", "hf_quant_config.json"))
            return _of_folder(Path(folder), f"{source.repo}'s config.json")
    raise BuildError(
        "a plan is made from a config.json, and this source has none before it is fetched",
        fix="Give MODEL=path/to/config.json or MODEL=owner/name instead of CONFIG",
    )


def _of_folder(folder: Path, name: str) -> Config:
    values = read_json(folder / "config.json")
    modelopt = folder / "hf_quant_config.json"  # where NVIDIA's ModelOpt wrote what belongs into config.json
    if modelopt.exists() and not values.get("quantization_config"):
        values = values | {"quantization_config": {"quant_method": "modelopt"} | read_json(modelopt)["quantization"]}
    return _parsed(values, name)


def _parsed(values: dict[str, Any], name: str) -> Config:
    named = values.get("architectures")
    if not isinstance(named, list) or not named:
        raise BuildError(f"{name} has no architectures", fix="Use the config.json of a causal LM as it was published")
    return Config(name, values, str(named[0]), values.get("quantization_config") or {})
