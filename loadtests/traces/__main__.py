"""``make trace FILE=…``: the traces of a file as a page."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from loadtests.command import ended
from loadtests.traces.page import page
from loadtests.traces.read import TraceError, read


def main(arguments: Sequence[str]) -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="make trace")
    parser.add_argument("file", type=Path, help="what tracing.file names")
    parser.add_argument("--out", type=Path, default=Path("trace.html"))
    parser.add_argument("--trace", default="", help="the id of one, as the gateway's log has it")
    parser.add_argument("--last", type=int, default=50, help="how many, at most")
    options = parser.parse_args(arguments)
    roots = [root for root in read(options.file) if options.trace in ("", root.trace)]
    if not roots:
        wanted = f" with the id {options.trace}" if options.trace else ""
        raise TraceError(f"{options.file} has no trace{wanted}", fix="A batch is written once a second")
    options.out.write_text(page(roots, str(options.file), options.last), encoding="utf-8")
    print(f"{options.out}: {min(len(roots), options.last)} of {len(roots)} traces")
    return 0


if __name__ == "__main__":
    ended(main)
