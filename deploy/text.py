"""What is rendered as YAML: readable, and with the reasons of its words as comments."""

import re
import textwrap
from collections.abc import Mapping
from typing import Any

import yaml

_LINE, _SHORT = 120, 90
# What a line of YAML is about: an item of a list, the name in an item, or a key.
_WORD = re.compile(r"\s*(?:- )?\{?(?:name: )?'?([^\s:,'=}]+)")


class _Dumper(yaml.SafeDumper):
    """Readable YAML: no anchors, lists indented."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _list(dumper: yaml.SafeDumper, data: list[Any]) -> yaml.Node:
    """Short lists of words on one line."""
    short = all(isinstance(item, (str, int)) for item in data) and len(str(data)) < _LINE
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=short)


def _mapping(dumper: yaml.SafeDumper, data: dict[str, Any]) -> yaml.Node:
    """Short mappings on one line."""
    return dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=len(str(data)) < _SHORT)


def _text(dumper: yaml.SafeDumper, data: str) -> yaml.Node:
    """A file within the file as its lines."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)
_Dumper.add_representer(dict, _mapping)


def to_yaml(data: dict[str, Any]) -> str:
    """A document."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=_LINE, allow_unicode=True)


def annotated(text: str, whys: Mapping[str, str]) -> str:
    """YAML with a comment above each line whose word has a reason."""
    lines = []
    for line in text.splitlines():
        found = _WORD.match(line)
        if found and (why := whys.get(found[1])):
            mark = f"{' ' * (len(line) - len(line.lstrip()))}# "
            lines += textwrap.wrap(why, _LINE, initial_indent=mark, subsequent_indent=mark)
        lines.append(line)
    return "\n".join(lines) + "\n"
