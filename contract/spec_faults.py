"""What is wrong with a deployment spec, on which line of its file, and what was meant."""

import difflib
import re
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel

_NAMED = re.compile(r"([a-z_0-9]+(?:\.[A-Za-z_0-9]+)+): .+")


def explain(path: Path, tree: yaml.Node | None, fault: Any, whole: type[BaseModel]) -> str:
    """One pydantic fault as ``file:line: key: what is wrong, and the nearest key``."""
    keys, _ = _walk(fault["loc"], whole)
    line = _line_of(tree, keys)
    where = f"{path}:{line}: {'.'.join(keys)}: " if keys else f"{path}: "
    if fault["type"] == "extra_forbidden":
        known = list(_walk(fault["loc"][:-1], whole)[1].model_fields)
        near = difflib.get_close_matches(keys[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
        return f"{where}unknown key; {hint}"
    message = fault["msg"].removeprefix("Value error, ")
    if not keys and (named := [_NAMED.match(line) for line in message.splitlines()]) and all(named):
        # Faults of the whole spec that name their own keys.
        return "\n".join(f"{path}:{_line_of(tree, found[1].split('.'))}: {found[0]}" for found in named if found)
    if fault["type"] == "missing":
        return f"{where}is missing"
    given = fault.get("input")
    shown = f", got {given!r}" if isinstance(given, (str, int, float, bool)) else ""
    return f"{where}{message[0].lower()}{message[1:]}{shown}"


def _walk(location: tuple[int | str, ...], whole: type[BaseModel]) -> tuple[list[str], type[BaseModel]]:
    """The file's keys at a pydantic location, and the section they lead to."""
    keys: list[str] = []
    section = whole
    choices: tuple[type[BaseModel], ...] = ()
    for part in location:
        if choices:  # the tag of a union, such as 'pypi', is no key of the file
            section = next(each for each in choices if part in get_args(each.model_fields["kind"].annotation))
            choices = ()
            continue
        keys.append(str(part))
        field = section.model_fields.get(str(part))
        found = _sections(field.annotation) if field else ()
        section, choices = (found[0], ()) if len(found) == 1 else (section, found)
    return keys, section


def _sections(annotation: Any) -> tuple[type[BaseModel], ...]:
    """The sections that a field may hold."""
    if isinstance(annotation, type):
        return (annotation,) if issubclass(annotation, BaseModel) else ()
    return tuple(found for part in get_args(annotation) for found in _sections(part))


def _line_of(node: yaml.Node | None, keys: list[str]) -> int:
    """The line (from 1) of the deepest of these nested keys that the file has."""
    line = node.start_mark.line + 1 if node else 1
    for key in keys:
        if isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
            node = node.value[int(key)]
            line = node.start_mark.line + 1
            continue
        if not isinstance(node, yaml.MappingNode):
            break
        for key_node, value_node in node.value:
            if key_node.value == key:
                line, node = key_node.start_mark.line + 1, value_node
                break
        else:
            break
    return line


def duplicate_key(node: yaml.Node | None) -> tuple[str, int] | None:
    """The first key that a mapping holds twice, and its line; YAML itself would keep the last silently."""
    if not isinstance(node, yaml.MappingNode):
        return None
    seen: set[str] = set()
    for key_node, value_node in node.value:
        if key_node.value in seen:
            return key_node.value, key_node.start_mark.line + 1
        seen.add(key_node.value)
        deeper = duplicate_key(value_node)
        if deeper:
            return deeper
    return None
