"""Classes out of the recording: the same names, arguments, types and defaults, unknown arguments refused.

A type that the recording names and does not describe (MoeConfig, torch's Tensor) becomes an empty class.
"""

import dataclasses
import enum
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from contract.engines.trtllm.api import REQUIRED, arguments, recorded

# Plain dataclasses in 1.2.1; the others are pydantic models that forbid what they do not know.
DATACLASSES = ("SamplingParams", "QuantConfig", "GuidedDecodingParams", "LoRARequest")
_CPP = {"max_window_size": 4, "max_ngram_size": 3, "max_verification_set_size": 4}


class _Names(dict[str, Any]):
    """What the recorded types name."""

    def __missing__(self, name: str) -> Any:
        return named(name)


_TYPING = ("Any", "Dict", "List", "Literal", "Mapping", "Optional", "Set", "Union")
_KNOWN = {name: getattr(typing, name) for name in _TYPING}
_BUILTINS = {kind.__name__: kind for kind in (bool, dict, float, int, list, object, str)}


def annotation(text: str) -> Any:
    """A recorded type as Python has it."""
    return eval(text, {"__builtins__": {}}, _Names(_KNOWN | _BUILTINS | {"Path": Path, "BaseModel": BaseModel}))


@cache
def named(name: str) -> Any:
    """The class of this name."""
    data = recorded()
    if name in data["enums"]:
        return enum.StrEnum(name, {member: member for member in data["enums"][name]})
    if name not in data["calls"]:
        return type(name, (), {"__doc__": "Named by the recording, and not described."})
    fields = arguments(name)
    return _dataclass(name, fields) if name in DATACLASSES else _model(name, fields)


def default(field: Mapping[str, Any], name: str) -> Any:
    """A recorded default; factories and C++ constants are resolved."""
    value = field["default"]
    if value == "<C++>":
        return _CPP[name]
    if isinstance(value, str) and value.startswith("<factory "):
        return named(value.removeprefix("<factory ").removesuffix(">")) if value != "<factory dict>" else dict
    return value


def _model(name: str, fields: dict[str, dict[str, Any]]) -> type[BaseModel]:
    made: dict[str, Any] = {}
    for field, described in fields.items():
        value = default(described, field)
        factory = isinstance(described["default"], str) and described["default"].startswith("<factory ")
        if value == REQUIRED:
            made[field] = (annotation(described["type"]), ...)
        elif factory or isinstance(value, list | dict):
            made[field] = (annotation(described["type"]), Field(default_factory=value if factory else type(value)))
        else:
            made[field] = (annotation(described["type"]), value)
    config = ConfigDict(
        extra="ignore" if name == "PluginConfig" else "forbid", arbitrary_types_allowed=True, protected_namespaces=()
    )
    return create_model(name, __config__=config, __module__=__name__, **made)


def _dataclass(name: str, fields: dict[str, dict[str, Any]]) -> type[Any]:
    made: list[Any] = []
    for field, described in fields.items():
        value = default(described, field)
        if value == REQUIRED:
            made.append((field, annotation(described["type"])))
        elif isinstance(value, list):
            made.append((field, annotation(described["type"]), dataclasses.field(default_factory=list)))
        else:
            made.append((field, annotation(described["type"]), dataclasses.field(default=value)))
    return dataclasses.make_dataclass(
        name, made, kw_only=name == "SamplingParams", namespace={"__post_init__": _CHECKS.get(name, lambda _: None)}
    )


def _one_guide(params: Any) -> None:
    given = [field.name for field in dataclasses.fields(params) if getattr(params, field.name)]
    if len(given) != 1:
        raise ValueError(f"Only one guide can be used for a request, but got {given}.")


def _adapter_is_there(request: Any) -> None:
    if not Path(request.lora_path).exists():
        raise ValueError(f"lora_path ({request.lora_path}) does not exist.")


def _sampling_is_sane(params: Any) -> None:
    if params.top_p is not None and not 0 <= params.top_p <= 1:
        raise ValueError(f"require 0 <= top_p <= 1, got top_p={params.top_p}")
    for name in ("top_k", "temperature"):
        value = getattr(params, name)
        if value is not None and value < 0:
            raise ValueError(f"require {name} >= 0, got {name}={value}")
    best = params.best_of if params.best_of is not None else params.n
    if best < params.n:
        raise ValueError(f"best_of ({best}) cannot be less than n ({params.n})")


_CHECKS = {
    "GuidedDecodingParams": _one_guide,
    "LoRARequest": _adapter_is_there,
    "SamplingParams": _sampling_is_sane,
}
