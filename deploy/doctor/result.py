"""What one look at a machine comes to: a status, what was seen, and what to do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

Status = Literal["ok", "warn", "fail", "skipped"]
_COLOURS: dict[Status, str] = {"ok": "green", "warn": "yellow", "fail": "bold red", "skipped": "dim"}


@dataclass(frozen=True)
class Result:
    """The outcome of one check.

    Args:
        check: its name, the same on every node.
        seen: what there is, with its figures.
        todo: what to do about it; '' where nothing is.
        same: what must be alike on all nodes, by name.
    """

    check: str
    status: Status
    seen: str
    todo: str = ""
    same: Mapping[str, str] = field(default_factory=dict)


def failed(results: Iterable[Result]) -> bool:
    """Whether something must be put right first."""
    return any(result.status == "fail" for result in results)


def show(title: str, results: Iterable[Result], console: Console) -> None:
    """The results as a table."""
    table = Table(title=title, title_justify="left", show_lines=False, expand=False)
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("seen", overflow="fold")
    table.add_column("to do", overflow="fold")
    for result in results:
        colour = _COLOURS[result.status]
        status = f"[{colour}]{result.status}[/]"
        table.add_row(escape(result.check), status, escape(result.seen), escape(result.todo))
    console.print(table)
