"""docs/fields.md from the bodies' own declarations: ``python -m gateway.fields_page`` (make fields-page)."""

import json
from collections import defaultdict
from collections.abc import Iterator

from contract.checkout import ROOT
from gateway.openapi import BODIES
from gateway.schema.decisions import Accepted, Decision, Entry, Honoured, Refused, entries

PAGE = ROOT / "docs" / "fields.md"

_HEAD = """# Every field that a client may send
`make fields-page` writes this page from the code that checks the requests; a test sends every field to a gateway.

**honoured**: it does what it says, or is refused by name where the deployment's [engine](engines.md) lacks it.
**accepted**: it changes nothing. **refused**: by name, with the reason, as it would change the answer; the values that
ask for nothing are let through. `null` is "not given" everywhere, 1.0 is 1, and a field that is not here is refused.
"""

Row = tuple[str, Decision | None]  # of a field's path


def page() -> str:
    """The whole file: a table for each set of endpoints that have a field alike, the largest set first."""
    doors: dict[Row, list[str]] = defaultdict(list)
    for door, (body, _) in BODIES.items():
        for entry in entries(body):
            if door not in doors[_row(entry)]:
                doors[_row(entry)].append(door)
    tables: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row, those in doors.items():
        tables[tuple(those)].append(row)
    lines = [_HEAD]
    for having in sorted(tables, key=len, reverse=True):
        lines += [f"## {', '.join(f'`{door}`' for door in having)}", *_table(tables[having]), ""]
    return "\n".join(lines)


def _row(entry: Entry) -> Row:
    return entry.path, entry.decision


def _table(rows: list[Row]) -> Iterator[str]:
    yield "| field | | |"
    yield "|---|---|---|"
    for path, decision in rows:
        yield f"| `{path}` | {' | '.join(_told(decision))} |"


def _told(decision: Decision | None) -> tuple[str, str]:
    match decision:
        case Honoured(how):
            return "honoured", how
        case Accepted(why):
            return "accepted", why
        case Refused(why=why, neutral=()):
            return "refused", why
        case Refused(why=why, neutral=neutral):
            return f"refused but for {', '.join(f'`{json.dumps(value)}`' for value in neutral)}", why
    return "undecided", ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
