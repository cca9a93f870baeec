"""What every release came to: a report in its folder, a line in the deployment's history."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.rollout import HISTORY, RELEASES, release_folder

REPORT = "report.json"
WANTED, BEFORE, SERVED = "wanted.yaml", "before.yaml", "served.yaml"  # specs: as given, what was served, what is


@dataclass
class Report:
    """One release; everything that was found is added as it is."""

    release: str
    deployment: str
    config: str
    began: float = field(default_factory=time.time)
    verdict: str = "unfinished"  # promoted, rolled back or refused
    reason: str = ""
    before: str = ""  # the engine's version that was served; '' for one without weights
    version: str = ""  # and the one that was to be
    engine_before: str = ""
    engine: str = ""
    found: dict[str, Any] = field(default_factory=dict)

    def line(self) -> dict[str, Any]:
        """For the history."""
        return {
            "release": self.release,
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.began)),
            "took_s": round(time.time() - self.began, 1),
            "verdict": self.verdict,
            "reason": self.reason,
            "before": self.before,
            "version": self.version,
            "config": self.config,
        }

    def write(self, run_dir: Path) -> None:
        """The report, and its line in the history."""
        told = self.line() | {"engine_before": self.engine_before, "engine": self.engine, "found": self.found}
        (release_folder(run_dir, self.release) / REPORT).write_text(json.dumps(told, indent=1) + "\n")
        with (run_dir / RELEASES / HISTORY).open("a") as history:
            history.write(json.dumps(self.line()) + "\n")


def history(run_dir: Path) -> list[dict[str, Any]]:
    """Every release of a deployment, the oldest first."""
    try:
        lines = (run_dir / RELEASES / HISTORY).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


def last_promoted(run_dir: Path) -> dict[str, Any] | None:
    """The report of the release that is served, or was last; None: none ever was."""
    for line in reversed(history(run_dir)):
        if line["verdict"] == "promoted":
            report: dict[str, Any] = json.loads((release_folder(run_dir, line["release"]) / REPORT).read_text())
            return report
    return None
