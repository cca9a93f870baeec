"""The API of the TensorRT-LLM that is really there, against the recorded one (contract/engines/trtllm/api.json).

``make contract-dump`` runs this in NVIDIA's image. **Not yet run on the image**: nobody here has one, so the
recording is what its published sources say. Standard library only, but for what the image has.
"""

import dataclasses
import enum
import inspect
import json
import re
import subprocess
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from contract.engines.trtllm.api import REQUIRED, place, recorded, version
from contract.engines.trtllm.calls import find

# The arguments of an LLM are the fields of a class of their own.
_ARGUMENTS_OF = {"TensorRtLlm": "TrtLlmArgs", "TorchLlm": "TorchLlmArgs"}
_METHODS = ("generate_async", "save", "shutdown", "get_stats", "get_stats_async")
_GENERIC = {"List": "list", "Dict": "dict", "Set": "set", "Tuple": "tuple"}

Fields = dict[str, dict[str, Any]]
T = TypeVar("T")


def dump() -> dict[str, Any]:
    """Everything that the recording names, as this installation has it."""
    data = recorded()
    return {"calls": _there(data["calls"], _fields), "enums": _there(data["enums"], _members)}


def differences(found: dict[str, Any]) -> Iterator[str]:
    """What a dump and the recording do not agree on, a line each."""
    data = recorded()
    for call, wanted in data["calls"].items():
        there: Fields | None = found["calls"].get(call)
        if there is None:
            yield f"{place(call)}: recorded, and not there"
            continue
        for name in sorted(wanted.keys() - there.keys()):
            yield f"{call}.{name}: recorded, and not there"
        for name in sorted(there.keys() - wanted.keys()):
            yield f"{call}.{name}: there, and not recorded"
        for name in sorted(wanted.keys() & there.keys()):
            ours, theirs = wanted[name], there[name]
            if call not in _METHODS and normal(ours["type"]) != normal(theirs["type"]):
                yield f"{call}.{name}: recorded as {ours['type']}, is {theirs['type']}"
            if not _same_default(ours["default"], theirs["default"]):
                yield f"{call}.{name}: default recorded as {ours['default']!r}, is {theirs['default']!r}"
    for enum_name, members in data["enums"].items():
        has: list[str] | None = found["enums"].get(enum_name)
        if has is None:
            yield f"{place(enum_name)}: recorded, and not there"
        elif set(members) != set(has):
            yield f"{enum_name}: recorded as {', '.join(members)}, is {', '.join(has)}"


def _there(names: Iterable[str], read: Callable[[str], T]) -> dict[str, T]:
    found = {}
    for name in names:
        with suppress(ImportError, AttributeError):  # a difference as well
            found[name] = read(name)
    return found


def _fields(name: str) -> Fields:
    if name in _METHODS:
        return _signature(getattr(find("TensorRtLlm"), name))
    return fields_of(find(_ARGUMENTS_OF.get(name, name)))


def _members(name: str) -> list[str]:
    return [member.name for member in find(name)]


def fields_of(kind: Any) -> Fields:
    """The fields of a pydantic model or a dataclass."""
    if dataclasses.is_dataclass(kind):
        return {
            field.name: {"type": rendered(field.type), "default": _default(field.default, field.default_factory)}
            for field in dataclasses.fields(kind)
            if field.init
        }
    return {
        name: {
            "type": rendered(field.annotation),
            "default": REQUIRED if field.is_required() else _default(field.default, field.default_factory),
        }
        for name, field in kind.model_fields.items()
    }


def _signature(method: Any) -> Fields:
    parameters = list(inspect.signature(method).parameters.values())[1:]
    return {
        each.name: {"type": "Any", "default": REQUIRED if each.default is each.empty else _plain(each.default)}
        for each in parameters
    }


def rendered(annotation: Any) -> str:
    """An annotation as the recording writes it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is None or annotation is type(None):
        return "None"
    if isinstance(annotation, str):
        return annotation
    if origin is typing.Annotated:
        return rendered(arguments[0])
    if origin in (typing.Union, types.UnionType):
        parts = [rendered(part) for part in arguments if part is not type(None)]
        whole = parts[0] if len(parts) == 1 else f"Union[{', '.join(parts)}]"
        return f"Optional[{whole}]" if type(None) in arguments else whole
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if origin is not None:
        return f"{_name(origin)}[{', '.join(map(rendered, arguments))}]"
    return _name(annotation)


def normal(text: str) -> str:
    """A type without what does not matter: modules, spaces, List or list."""
    text = re.sub(r"[A-Za-z_]\w*\.(?=[A-Za-z_])", "", text)
    text = re.sub(r"\b(List|Dict|Set|Tuple)\b", lambda found: _GENERIC[found[1]], text)
    return re.sub(r"\s", "", text).replace('"', "'")


def _name(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))


def _default(value: Any, factory: Any) -> Any:
    if factory is not None and factory is not dataclasses.MISSING:
        return {list: [], dict: {}, set: []}.get(factory, f"<factory {_name(factory)}>")
    return REQUIRED if value is dataclasses.MISSING else _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.name
    return value if isinstance(value, (str, int, float, bool, list, dict, type(None))) else repr(value)


def _same_default(recorded_as: Any, found: Any) -> bool:
    if recorded_as == "<C++>":  # what the C++ library says at run time
        return True
    if recorded_as == "<factory dict>":
        recorded_as = {}
    if isinstance(recorded_as, str) and isinstance(found, str):
        return recorded_as.rpartition(".")[2] == found.rpartition(".")[2]
    return type(recorded_as) is type(found) and recorded_as == found


def main() -> None:
    """``python -m tests.trtllm.contract_dump OUT``: here if TensorRT-LLM is, else in the image."""
    out = Path(sys.argv[1]).resolve()
    from build.trtllm.container import Mounts, check_running, command, in_place
    from contract.engines.trtllm.options import Container
    from contract.errors import ConchError

    if not in_place():
        (out.parent / "home").mkdir(parents=True, exist_ok=True)  # of the user inside
        script = ["-m", "tests.trtllm.contract_dump", str(out)]
        try:
            argv = command(script, "conch-contract-dump", Container(), Mounts((), (out.parent,)), out.parent)
            check_running(argv[0])
        except ConchError as refusal:
            sys.exit(str(refusal))
        sys.exit(subprocess.run(argv, check=False).returncode)
    import tensorrt_llm

    found = dump() | {"version": tensorrt_llm.__version__}
    out.write_text(json.dumps(found, indent=1))
    told = list(differences(found))
    print("\n".join(told) or f"TensorRT-LLM {found['version']} is what was recorded of {version()}")
    sys.exit(1 if told else 0)


if __name__ == "__main__":
    main()
