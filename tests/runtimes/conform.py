"""``python -m tests.runtimes.conform CONFIG [OUT]``: does a running deployment keep the contract? No pytest needed.

Prints a line a check and writes JSON to OUT; exits with 1 where a check failed.
"""

import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from contract.manifest import engines_root
from contract.spec import load_spec
from tests.runtimes.contract import CHECKS, LONG, Served


def conform(served: Served) -> list[dict[str, Any]]:
    """Every check, and why one failed."""
    found = []
    for check in (*CHECKS, *LONG):
        begun, failed = time.monotonic(), ""
        try:
            check(served)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            failed = f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno}: {last.line})"
        found.append({"check": check.__name__, "seconds": round(time.monotonic() - begun, 2), "failed": failed})
        print("FAILED" if failed else "ok    ", check.__name__.replace("_", " "), failed, flush=True)
    return found


def main() -> int:
    """Run them."""
    root = Path(__file__).resolve().parents[2]
    spec = load_spec(Path(sys.argv[1]))
    found = conform(Served(spec, engines_root(root, spec.name) / "current"))
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(json.dumps(found, indent=1) + "\n")
    return 1 if any(each["failed"] for each in found) else 0


if __name__ == "__main__":
    sys.exit(main())
