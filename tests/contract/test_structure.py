"""Who imports whom, drawn from the code, against the rule of one direction; and docs/structure.md against the files."""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "structure.md"
MAY = {
    "contract": set[str](),
    "build": {"contract"},
    "python_backend": {"contract"},
    "serving": {"contract"},
    "clients": {"contract"},
    "gateway": {"contract", "clients"},
    "loadtests": {"contract", "clients"},
    "release": {"contract", "clients"},
    "deploy": {"contract"},
}
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for room in MAY
    for file in (ROOT / room).rglob("*.py")
}


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules of ours that run when this one does: what only types need is not among them."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            whole = (f"{node.module}.{name.name}" for name in node.names)
            yield from (each if each in MODULES else node.module for each in whole)
        else:
            yield from imported(node)


ARROWS = {name: set(imported(ast.parse(file.read_text()))) - {name} for name, file in MODULES.items()}


@pytest.mark.parametrize("room", MAY)
def test_a_room_imports_what_it_may(room: str) -> None:
    known = {
        other.split(".")[0] for name, others in ARROWS.items() if name.split(".")[0] == room for other in others
    } - {room}
    assert known <= MAY[room]


def test_no_module_imports_another_in_a_circle() -> None:
    try:
        TopologicalSorter(ARROWS).prepare()
    except CycleError as circle:
        pytest.fail(" -> ".join(circle.args[1]))


def named(tree: ast.AST) -> Iterator[str]:
    """Our modules that stand in a file as strings: alone with a point in them, or behind ``-m``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            yield node.value
        words = node.elts if isinstance(node, ast.Tuple | ast.List) else node.args if isinstance(node, ast.Call) else []
        for option, word in pairwise(words):
            if ast.unparse(option) == "'-m'" and isinstance(word, ast.Constant) and isinstance(word.value, str):
                yield word.value


def test_what_a_room_starts_of_another_is_named_in_one_place() -> None:
    programs = {name.removesuffix(".__main__") for name in MODULES}
    strays = {
        (name, other)
        for name, file in MODULES.items()
        for other in named(ast.parse(file.read_text()))
        if name != "contract.programs" and other in programs and other.split(".")[0] != name.split(".")[0]
    }
    assert strays == set()


def test_the_page_names_files_that_are_there() -> None:
    named = set(re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", PAGE.read_text()))
    assert len(named) > 30
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_the_page_tells_the_rule() -> None:
    rows = re.findall(r"^\| `(\w+)/` \|.*\| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE)
    assert {room: set(re.findall(r"`(\w+)`", may)) for room, may in rows} == MAY
