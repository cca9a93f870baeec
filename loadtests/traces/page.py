"""Traces as a page that needs nothing but a browser: each request a waterfall, each row its attributes."""

import time
from collections.abc import Sequence
from pathlib import Path

from loadtests.load.report import rendered
from loadtests.traces.read import Span


def page(roots: Sequence[Span], file: str, most: int) -> str:
    """The latest ``most`` of them."""
    return rendered(
        "traces.html.j2",
        Path(__file__).parent,
        title="Traces",
        file=file,
        all=len(roots),
        roots=list(reversed(roots))[:most],
        length=lambda root: max(1, root.ended_ns - root.begun_ns),
        when=lambda root: time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(root.begun_ns / 1e9)),
    )
