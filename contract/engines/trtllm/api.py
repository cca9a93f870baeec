"""The API of TensorRT-LLM 1.2.1 as recorded from its sources: what may be called, with which arguments.

TensorRT-LLM cannot be installed without its GPU stack, so every argument that we ever pass is checked against
``api.json``. ``make contract-dump`` compares that file with a real image.
"""

import difflib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).with_name("api.json")
REQUIRED = "<required>"

_CHECKS: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "str": (str,),
    "Path": (str,),
    "dict": (dict,),
    "Any": (object,),
}


@cache
def recorded() -> dict[str, Any]:
    """The whole recording."""
    data: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))
    return data


def version() -> str:
    """The release that was recorded."""
    return str(recorded()["version"])


def arguments(call: str) -> dict[str, dict[str, Any]]:
    """The arguments of a class or method: name → type and default."""
    found: dict[str, dict[str, Any]] = recorded()["calls"][call]
    return found


def members(enum: str) -> list[str]:
    """The members of an enumeration."""
    found: list[str] = recorded()["enums"][enum]
    return found


def place(name: str) -> str:
    """Where a class or an enumeration is imported from, as ``module.name``."""
    return str(recorded()["places"].get(name, f"tensorrt_llm.llmapi.{name}"))


def lora_modules() -> dict[str, str]:
    """What adapters can change: Hugging Face's name of a module → TensorRT-LLM's."""
    found: dict[str, str] = recorded()["lora_modules"]
    return found


def unknown(call: str, name: str) -> str:
    """What is wrong with the name of an argument; '' if it is one."""
    known = arguments(call)
    if name in known:
        return ""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"{call} has no argument {name}" + (f"; did you mean {near[0]}?" if near else "")


def misfit(call: str, name: str, value: object) -> str:
    """What is wrong with a plain value of an argument, by its recorded type; '' if nothing is."""
    wanted = arguments(call)[name]["type"]
    return "" if _fits(value, wanted) else f"{call} wants {wanted} for {name}, got {value!r}"


def _fits(value: object, wanted: str) -> bool:
    outer, _, inner = wanted.partition("[")
    parts = _split(inner.removesuffix("]")) if inner else []
    match outer:
        case "Optional":
            return value is None or _fits(value, parts[0])
        case "Union":
            return any(_fits(value, part) for part in parts)
        case "Literal":
            return repr(value) in [part.replace('"', "'") for part in parts]
        case "List" | "list" | "Set" | "Tuple":
            return isinstance(value, (list, tuple)) and all(_fits(item, parts[0]) for item in value)
        case "Dict" | "dict" if parts:
            return isinstance(value, dict) and all(_fits(k, parts[0]) and _fits(v, parts[1]) for k, v in value.items())
    if outer in recorded()["enums"]:  # TensorRT-LLM takes their names
        return value in members(outer)
    kinds = _CHECKS.get(outer)
    if kinds is None:  # an object, which no YAML can name
        return False
    # True is an int to Python and not to TensorRT-LLM's users.
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool) or object in kinds)


def _split(inner: str) -> list[str]:
    """``str, List[int]`` at its top-level commas."""
    parts, depth, current = [], 0, ""
    for piece in re.split(r"([\[\],])", inner):
        if piece == "," and depth == 0:
            parts.append(current.strip())
            current = ""
            continue
        depth += {"[": 1, "]": -1}.get(piece, 0)
        current += piece
    return [*parts, current.strip()]
