"""What was measured, a line a cell, on disk the moment it is known: an interrupted run goes on where it was."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CELLS = "cells.jsonl"


@dataclass(frozen=True)
class Cell:
    """One measure of one engine, one way, in one round."""

    key: str  # over everything that the figure depends on
    entrant: str
    way: str  # '' for what concerns the whole visit
    round: int
    measure: str  # burst-16, ttft, …
    result: dict[str, Any] | None
    failed: str = ""  # why there is no result; tried again by the next run
    absent: str = ""  # why there never will be one


class Record:
    """The cells of one folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / CELLS
        self._cells: dict[str, Cell] = {}
        if self._path.exists():
            for line in self._path.read_text().splitlines():
                cell = Cell(**json.loads(line))
                self._cells[cell.key] = cell

    def settled(self, key: str) -> bool:
        """Whether nothing is to be measured under this key."""
        cell = self._cells.get(key)
        return cell is not None and not cell.failed

    def get(self, key: str) -> Cell | None:
        """The cell of a key."""
        return self._cells.get(key)

    def keep(self, cell: Cell) -> None:
        """Add a cell, in the place of an earlier one."""
        self._cells[cell.key] = cell
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(cell), allow_nan=False) + "\n")


def key_of(*parts: Any) -> str:
    """Twelve hex digits over JSON-like values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]
