"""What the commands here do alike: the head of a report, its file, what Ctrl-C leaves of it, and how they end."""

import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from contract.errors import ConchError
from contract.manifest import this_machine


def head() -> dict[str, Any]:
    """When, and on which machine."""
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {**this_machine().model_dump(), "cores": os.cpu_count(), "kernel": platform.release()},
    }


def write(path: Path, report: dict[str, Any]) -> None:
    """The report as a file; Infinity is no JSON, and where a figure has no end, None says so."""
    path.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")


@contextmanager
def kept(path: Path, report: dict[str, Any], filled: Sized) -> Iterator[None]:
    """Write a report once it is filled. One that Ctrl-C or a failure cuts keeps what it has, and says that it was cut.

    Args:
        filled: the part of it that is filled; where it is empty, an earlier report stays.
    """
    try:
        yield
    except (KeyboardInterrupt, ConchError):
        if filled:
            write(path, report | {"cut": True})
            print(f"cut: what was measured by then is in {path}", flush=True)
        raise
    write(path, report)


def ended(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run a command of ours as a process, to its exit code; SIGTERM and Ctrl-C end what it started."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
    signal.signal(signal.SIGTERM, _terminated)
    try:
        sys.exit(main(sys.argv[1:]))
    except ConchError as refusal:
        sys.exit(str(refusal))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _terminated(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # timeout(1) sends two: the second is not to cut what the first ends
    sys.exit(128 + signal.SIGTERM)
