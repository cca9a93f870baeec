"""``python -m loadtests.soak.together OUT REPORT…``: soaks that ran side by side on one machine, as one report."""

import argparse
import json
from pathlib import Path
from typing import Any

from loadtests.command import write

_COUNTED = (
    *("streams", "requests", "undisturbed", "complete", "cancelled", "refused", "told", "lost", "hung", "wrong"),
    *("characters", "pieces", "memory_stretches"),
)


def together(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts summed, times and growth at their worst, and each report whole."""
    kills = [took for report in reports for took in report["kills"].values()]
    return {
        "when": max(report["when"] for report in reports),
        "machine": reports[0]["machine"],
        "deployments": len(reports),
        "seconds": max(report["seconds"] for report in reports),
        **{name: sum(report[name] for report in reports) for name in _COUNTED},
        "kills": sum(took["times"] for took in kills),
        "longest_recovery_s": max((took["most_s"] for took in kills), default=None),
        "most_growth_mib_per_10000_requests": max(
            growth for report in reports for growth in report["memory_growth_mib_per_10000_requests"].values()
        ),
        "gauges_left": {name: value for report in reports for name, value in report["gauges_left"].items()},
        "clean": all(report["clean"] for report in reports),
        "soaks": [{name: value for name, value in report.items() if name != "machine"} for report in reports],
    }


def main() -> None:
    """Write it."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.soak.together", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("reports", type=Path, nargs="+")
    options = parser.parse_args()
    write(options.out, together([json.loads(path.read_text()) for path in options.reports]))


if __name__ == "__main__":
    main()
