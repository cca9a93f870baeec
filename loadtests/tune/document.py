"""A deployment's YAML with other values in some places: its comments, its order and everything else stay.

Values are replaced where the parser found them, so nothing is reformatted. A file that is written in a way that this
cannot follow (a section in braces, an alias) is written anew, without its comments.
"""

from pathlib import Path
from typing import Any

import yaml

from contract.engines.knobs import Settings, Value
from contract.spec import Deployment, load_spec

_INDENT = 2


def written(original: Path, settings: Settings, target: Path) -> Deployment:
    """Write the deployment of ``original`` with these settings to ``target``.

    Raises:
        SpecError: they contradict each other, or the rest; each named.
    """
    text = original.read_text(encoding="utf-8")
    data = _set(yaml.safe_load(text), settings)
    edited = text
    for field, value in settings.items():
        edited = _edited(edited, field.split("."), value)
    if _parsed(edited) != data:
        edited = yaml.safe_dump(data, sort_keys=False)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(edited, encoding="utf-8")
    return load_spec(target)


def _set(data: dict[str, Any], settings: Settings) -> dict[str, Any]:
    for field, value in settings.items():
        *sections, key = field.split(".")
        here = data
        for section in sections:
            here[section] = here.get(section) or {}
            here = here[section]
        here[key] = value
    return data


def _parsed(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _edited(text: str, keys: list[str], value: Value) -> str:
    """The text with one value; unchanged where it is not to be followed."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    for depth, key in enumerate(keys):
        if not isinstance(node, yaml.MappingNode) or node.flow_style or not node.value:
            return text
        indent = node.value[0][0].start_mark.column
        found = next((pair for pair in node.value if pair[0].value == key), None)
        if found is None:
            at = node.end_mark.index if depth else len(text)
            return _inserted(text, at, indent, keys[depth:], value)
        node = found[1]
    if not isinstance(node, yaml.ScalarNode):
        return text
    return text[: node.start_mark.index] + _scalar(value) + text[node.end_mark.index :]


def _inserted(text: str, at: int, indent: int, keys: list[str], value: Value) -> str:
    """New lines at the end of a section, before the blank lines and comments that lead to the next."""
    before = text[:at]
    lines = before.splitlines(keepends=True)
    while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    kept = "".join(lines)
    new = "" if kept.endswith("\n") or not kept else "\n"
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        new += f"{' ' * (indent + _INDENT * depth)}{key}:{f' {_scalar(value)}' if last else ''}\n"
    return kept + new + text[len(kept) :]


def _scalar(value: Value) -> str:
    return yaml.safe_dump(value).removesuffix("\n").removesuffix("\n...").strip()
